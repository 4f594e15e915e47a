#!/usr/bin/env python3
"""Writes a reference case of torchvision's RetinaNet in f64, where nothing hides behind rounding.

  /usr/bin/python3 tests/parity_case_f64.py torchvision_case.py --arch resnet101 --size 256x320 case.safetensors
  build/fovea parity case.safetensors

Runs the case script named first, with its own arguments. Boxes keep f32 values, as ours are f32.
"""
import runpy
import sys

import torch
from torchvision.models.detection import retinanet

torch.set_default_dtype(torch.float64)
compute_loss = retinanet.RetinaNet.compute_loss


def with_f32_boxes(self, targets, outputs, anchors):
    for target in targets:
        target["boxes"].copy_(target["boxes"].float())
    return compute_loss(self, targets, outputs, anchors)


if len(sys.argv) < 2:
    sys.exit(__doc__)
retinanet.RetinaNet.compute_loss = with_f32_boxes
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
