"""The output type of a convolution with a kernel that is not square is inferred wrongly.

`Conv2d.__post_init__` and `NIRGraph.infer_types` pass `weight.shape[2]` as the kernel size of both axes.
"""

import nir
import numpy as np
import torch

weight = np.ones((1, 1, 3, 5), np.float32)
conv = nir.Conv2d((8, 8), weight, stride=1, padding=1, dilation=1, groups=1, bias=np.zeros(1, np.float32))
true = torch.nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.from_numpy(weight), padding=1).shape[1:]
print("expected:", list(true))
print("got:", conv.output_type["output"].tolist())
