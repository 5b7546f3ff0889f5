"""ResNet_CIFAR for 10 classes.

Written by r2kd_mm; needs torch alone. The images are normalised as export.json says.

    network = load('weights.pth')  # in eval mode
    logits = network(images)  # (N, 1, 8, 8) to (N, 10)
"""

import torch
from torch import nn


class Network(nn.Module):
    """The layers, under the names that the weights have."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict()
        self.backbone.conv1 = nn.Conv2d(1, 4, (3, 3), padding=(1, 1), bias=False)
        self.backbone.bn1 = nn.BatchNorm2d(4)
        self.backbone.relu = nn.ReLU(inplace=True)
        self.backbone.layer1 = nn.ModuleDict()
        self.backbone.layer1['0'] = nn.ModuleDict()
        self.backbone.layer1['0'].conv1 = nn.Conv2d(4, 4, (3, 3), padding=(1, 1), bias=False)
        self.backbone.layer1['0'].bn1 = nn.BatchNorm2d(4)
        self.backbone.layer1['0'].relu = nn.ReLU(inplace=True)
        self.backbone.layer1['0'].conv2 = nn.Conv2d(4, 4, (3, 3), padding=(1, 1), bias=False)
        self.backbone.layer1['0'].bn2 = nn.BatchNorm2d(4)
        self.backbone.layer1['1'] = nn.ModuleDict()
        self.backbone.layer1['1'].conv1 = nn.Conv2d(4, 4, (3, 3), padding=(1, 1), bias=False)
        self.backbone.layer1['1'].bn1 = nn.BatchNorm2d(4)
        self.backbone.layer1['1'].relu = nn.ReLU(inplace=True)
        self.backbone.layer1['1'].conv2 = nn.Conv2d(4, 4, (3, 3), padding=(1, 1), bias=False)
        self.backbone.layer1['1'].bn2 = nn.BatchNorm2d(4)
        self.backbone.layer2 = nn.ModuleDict()
        self.backbone.layer2['0'] = nn.ModuleDict()
        self.backbone.layer2['0'].conv1 = nn.Conv2d(4, 8, (3, 3), stride=(2, 2), padding=(1, 1), bias=False)
        self.backbone.layer2['0'].bn1 = nn.BatchNorm2d(8)
        self.backbone.layer2['0'].relu = nn.ReLU(inplace=True)
        self.backbone.layer2['0'].conv2 = nn.Conv2d(8, 8, (3, 3), padding=(1, 1), bias=False)
        self.backbone.layer2['0'].bn2 = nn.BatchNorm2d(8)
        self.backbone.layer2['0'].downsample = nn.ModuleDict()
        self.backbone.layer2['0'].downsample['0'] = nn.Conv2d(4, 8, (1, 1), stride=(2, 2), bias=False)
        self.backbone.layer2['0'].downsample['1'] = nn.BatchNorm2d(8)
        self.backbone.layer2['1'] = nn.ModuleDict()
        self.backbone.layer2['1'].conv1 = nn.Conv2d(8, 8, (3, 3), padding=(1, 1), bias=False)
        self.backbone.layer2['1'].bn1 = nn.BatchNorm2d(8)
        self.backbone.layer2['1'].relu = nn.ReLU(inplace=True)
        self.backbone.layer2['1'].conv2 = nn.Conv2d(8, 8, (3, 3), padding=(1, 1), bias=False)
        self.backbone.layer2['1'].bn2 = nn.BatchNorm2d(8)
        self.neck = nn.ModuleDict()
        self.neck.gap = nn.AdaptiveAvgPool2d((1, 1))
        self.head = nn.ModuleDict()
        self.head.fc = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        backbone_conv1 = self.backbone.conv1(images)
        backbone_bn1 = self.backbone.bn1(backbone_conv1)
        backbone_relu = self.backbone.relu(backbone_bn1)
        backbone_layer1_0_conv1 = self.backbone.layer1['0'].conv1(backbone_relu)
        backbone_layer1_0_bn1 = self.backbone.layer1['0'].bn1(backbone_layer1_0_conv1)
        backbone_layer1_0_relu = self.backbone.layer1['0'].relu(backbone_layer1_0_bn1)
        backbone_layer1_0_conv2 = self.backbone.layer1['0'].conv2(backbone_layer1_0_relu)
        backbone_layer1_0_bn2 = self.backbone.layer1['0'].bn2(backbone_layer1_0_conv2)
        add = backbone_layer1_0_bn2 + backbone_relu
        backbone_layer1_0_relu_1 = self.backbone.layer1['0'].relu(add)
        backbone_layer1_1_conv1 = self.backbone.layer1['1'].conv1(backbone_layer1_0_relu_1)
        backbone_layer1_1_bn1 = self.backbone.layer1['1'].bn1(backbone_layer1_1_conv1)
        backbone_layer1_1_relu = self.backbone.layer1['1'].relu(backbone_layer1_1_bn1)
        backbone_layer1_1_conv2 = self.backbone.layer1['1'].conv2(backbone_layer1_1_relu)
        backbone_layer1_1_bn2 = self.backbone.layer1['1'].bn2(backbone_layer1_1_conv2)
        add_1 = backbone_layer1_1_bn2 + backbone_layer1_0_relu_1
        backbone_layer1_1_relu_1 = self.backbone.layer1['1'].relu(add_1)
        backbone_layer2_0_conv1 = self.backbone.layer2['0'].conv1(backbone_layer1_1_relu_1)
        backbone_layer2_0_bn1 = self.backbone.layer2['0'].bn1(backbone_layer2_0_conv1)
        backbone_layer2_0_relu = self.backbone.layer2['0'].relu(backbone_layer2_0_bn1)
        backbone_layer2_0_conv2 = self.backbone.layer2['0'].conv2(backbone_layer2_0_relu)
        backbone_layer2_0_bn2 = self.backbone.layer2['0'].bn2(backbone_layer2_0_conv2)
        backbone_layer2_0_downsample_0 = self.backbone.layer2['0'].downsample['0'](backbone_layer1_1_relu_1)
        backbone_layer2_0_downsample_1 = self.backbone.layer2['0'].downsample['1'](backbone_layer2_0_downsample_0)
        add_2 = backbone_layer2_0_bn2 + backbone_layer2_0_downsample_1
        backbone_layer2_0_relu_1 = self.backbone.layer2['0'].relu(add_2)
        backbone_layer2_1_conv1 = self.backbone.layer2['1'].conv1(backbone_layer2_0_relu_1)
        backbone_layer2_1_bn1 = self.backbone.layer2['1'].bn1(backbone_layer2_1_conv1)
        backbone_layer2_1_relu = self.backbone.layer2['1'].relu(backbone_layer2_1_bn1)
        backbone_layer2_1_conv2 = self.backbone.layer2['1'].conv2(backbone_layer2_1_relu)
        backbone_layer2_1_bn2 = self.backbone.layer2['1'].bn2(backbone_layer2_1_conv2)
        add_3 = backbone_layer2_1_bn2 + backbone_layer2_0_relu_1
        backbone_layer2_1_relu_1 = self.backbone.layer2['1'].relu(add_3)
        neck_gap = self.neck.gap(backbone_layer2_1_relu_1)
        size = backbone_layer2_1_relu_1.size(0)
        view = neck_gap.view(size, -1)
        head_fc = self.head.fc(view)
        return head_fc


def load(weights: str) -> Network:
    """The network with the weights of this file."""
    network = Network()
    network.load_state_dict(torch.load(weights, weights_only=True)['state_dict'])
    return network.eval()
