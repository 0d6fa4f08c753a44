"""torch.nn.init itself."""

from torch.nn.init import *  # its names end in an underscore, none begins with one
