"""Characters of frames of various number, without an alignment: packed sequences through an LSTM, and CTC."""

import torch
from torch import nn, optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.optim.lr_scheduler import CyclicLR


class Reader(nn.Module):
    def __init__(self, features, speakers, hidden, characters):
        super().__init__()
        self.speaker = nn.EmbeddingBag(speakers, features, mode="mean", padding_idx=0)
        self.norm = nn.LayerNorm(features)
        self.lstm = nn.LSTM(features, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, characters)

    def forward(self, frames, lengths, traits, offsets):
        x = self.norm(frames + self.speaker(traits, offsets)[:, None])
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, _ = self.lstm(packed)
        output, lengths = pad_packed_sequence(output, batch_first=True)
        return self.head(output).log_softmax(-1), lengths


def main(steps=10, dtype=torch.float64):
    torch.manual_seed(0)
    lengths = torch.tensor([9, 12, 7, 10])
    frames = pad_sequence([torch.randn(n, 6, dtype=dtype) for n in lengths.tolist()], batch_first=True)
    words = [torch.randint(1, 5, (n,)) for n in (3, 4, 2, 3)]
    targets, target_lengths = torch.cat(words), torch.tensor([len(w) for w in words])
    traits, offsets = torch.tensor([1, 2, 3, 1, 0, 4, 2]), torch.tensor([0, 2, 3, 5])
    model = Reader(6, 5, 8, 5).to(dtype)
    criterion = nn.CTCLoss(blank=0, zero_infinity=True)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    scheduler = CyclicLR(optimizer, base_lr=1e-3, max_lr=2e-2, step_size_up=3, mode="triangular2", cycle_momentum=False)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        log_probs, sizes = model(frames, lengths, traits, offsets)
        loss = criterion(log_probs.transpose(0, 1), targets, sizes, target_lengths)
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.5)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(*main(), sep="\n")
