"""Count hits of a prototype network under given noise with torch, torchvision, timm and PIL alone: nothing of ours.

python benchmarks/independent_hits.py NETWORK IMAGES NOISE.npy OUT.npz SCALE...     (NETWORK as in a sweep file)
"""

import sys

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from PIL import ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as T

network, folder, noise_file, out, *scales = sys.argv[1:]
library, name = network.split("/")
data = torchvision.datasets.ImageFolder(folder)
torch.manual_seed(0)
if library == "torchvision":
    net = getattr(torchvision.models, name)(num_classes=len(data.classes)).eval()
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    resize, crop, mode, mean, std = preset.resize_size[0], 224, preset.interpolation, preset.mean, preset.std
else:
    net = timm.create_model(name, num_classes=len(data.classes)).eval()
    preset = timm.data.resolve_model_data_config(net)
    resize, crop, mode = int(224 / preset["crop_pct"]), 224, InterpolationMode(preset["interpolation"])
    mean, std = preset["mean"], preset["std"]
if "swin" in name:  # the cut lies before the norm, the pooling after it
    cut = net.features if library == "torchvision" else net.layers
    pooled = lambda a: net.norm(a).mean((1, 2))  # noqa: E731
else:
    cut = net.layer4
    pooled = lambda a: a.mean((2, 3))  # noqa: E731
held: list[torch.Tensor] = []
cut.register_forward_hook(lambda module, inputs, output: held.append(output))
features = []
for file, _ in data.samples:
    image = T.center_crop(
        T.resize(ImageOps.exif_transpose(data.loader(file)), int(resize * 91 / crop), mode), 91
    )
    x = F.interpolate(T.normalize(T.to_tensor(image), mean, std)[None], size=(crop, crop), mode="bilinear")
    with torch.no_grad():
        net(x)
    features.append(held.pop())
a, labels = torch.cat(features), torch.tensor(data.targets)
with torch.no_grad():
    rows = torch.stack([pooled(a[labels == k][:1])[0] for k in range(len(data.classes))]).double()
    sigma = a.double().square().mean().sqrt()
    v = torch.from_numpy(np.load(noise_file))
    hits, margins = [], []
    for scale in scales:
        f = torch.cat(
            [pooled(b + float(scale) * sigma.float() * w) for b, w in zip(a.split(50), v.split(50))]
        ).double()
        logits = f @ rows.T - rows.square().sum(1) / 2
        mine = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        hits.append((mine > others).numpy())
        margins.append(((mine - others) / logits.abs().amax(1)).numpy())
np.savez(out, hits=np.array(hits), margins=np.array(margins), sigma=float(sigma))
