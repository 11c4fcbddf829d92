"""The input type of a grouped convolution is inferred wrongly.

`Conv2d.__post_init__` takes `weight.shape[1]` for the number of input channels, but that is channels / groups. So `nir.read(path)`
refuses every depthwise convolution that states its `input_shape`. (Conv1d has the same line.)
"""

import nir
import numpy as np

weight = np.ones((4, 1, 3, 3), np.float32)  # depthwise: 4 channels, 4 groups
conv = nir.Conv2d((8, 8), weight, stride=1, padding=1, dilation=1, groups=4, bias=np.zeros(4, np.float32))
print("expected:", [4, 8, 8])
print("got:", conv.input_type["input"].tolist())
