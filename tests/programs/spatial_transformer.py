"""A convolutional network that first turns its images upright, with normalised weights, warm restarts and averaged weights."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=3), nn.MaxPool2d(2, stride=2), nn.ReLU(True),
            nn.Conv2d(4, 5, kernel_size=3), nn.MaxPool2d(2, stride=2), nn.ReLU(True),
        )  # fmt: skip
        self.fc_loc = nn.Sequential(nn.Linear(5 * 2 * 2, 8), nn.ReLU(True), nn.Linear(8, 3 * 2))
        self.fc_loc[2].weight.data.zero_()
        self.fc_loc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))
        self.conv1 = weight_norm(nn.Conv2d(1, 6, kernel_size=3, padding=1))
        self.bn = nn.BatchNorm2d(6)
        self.conv2 = spectral_norm(nn.Conv2d(6, 8, kernel_size=3, padding=1))
        self.scales = nn.ParameterDict({"gain": nn.Parameter(torch.ones(8)), "shift": nn.Parameter(torch.zeros(8))})
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(8 * 4, 4)

    def stn(self, x):
        xs = self.localization(x).flatten(1)
        theta = self.fc_loc(xs).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def forward(self, x):
        x = self.stn(x)
        x = F.relu(self.bn(self.conv1(x)))
        x = self.conv2(x) * self.scales["gain"][:, None, None] + self.scales["shift"][:, None, None]
        x = self.pool(F.leaky_relu(x, 0.1))
        return F.log_softmax(self.fc(x.flatten(1)), dim=1)


def main(epochs=6, dtype=torch.float64):
    torch.manual_seed(0)
    images, labels = torch.rand(24, 1, 16, 16, dtype=dtype), torch.randint(4, (24,))
    batches = [(images[i : i + 8], labels[i : i + 8]) for i in range(0, 24, 8)]
    model = Net().to(dtype)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2)
    averaged = AveragedModel(model)
    swa_scheduler = SWALR(optimizer, swa_lr=0.02, anneal_epochs=2)
    losses = []
    for epoch in range(epochs):
        model.train()
        for data, target in batches:
            optimizer.zero_grad()
            loss = F.nll_loss(model(data), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if epoch >= epochs // 2:
            averaged.update_parameters(model)
            swa_scheduler.step()
        else:
            scheduler.step()
    update_bn(batches, averaged)
    averaged.eval()
    with torch.no_grad():
        losses += [F.nll_loss(averaged(data), target).item() for data, target in batches]
    return losses


if __name__ == "__main__":
    print(*main(), sep="\n")
