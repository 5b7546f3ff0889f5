"""Write the Python example of the model card: it predicts the class of a photo without importing r2kd_mm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PHOTO = 'photo.jpg'  # in the lines
OPENCV, PILLOW = 'cv2', 'pillow'
# By format: imports, and the expression that gives the row of one image from `images`.
NETWORKS = {
    'torch': (('import torch', 'from network import load'), "load('weights.pth')(torch.from_numpy(images))"),
    'safetensors': (
        ('import torch', 'from network import load'),
        "load('weights.safetensors')(torch.from_numpy(images))",
    ),
    'torchscript': (('import torch',), "torch.jit.load('model.pt')(torch.from_numpy(images))"),
    'exported': (('import torch',), "torch.export.load('model.pt2').module()(torch.from_numpy(images))"),
    'onnx': (('import onnxruntime',), "onnxruntime.InferenceSession('model.onnx').run(None, {'images': images})[0]"),
    'openvino': (('import openvino',), "openvino.Core().compile_model('model.xml', 'CPU')(images)[0]"),
    'executorch': (
        ('import torch', 'from executorch.runtime import Runtime'),
        "Runtime.get().load_program('model.pte').load_method('forward').execute((torch.from_numpy(images),))[0]",
    ),
}
INT8_OPERATORS = 'import torch.ao.quantization.fx._decomposed  # the operators of int8'
OF_MMPRETRAIN = f"""from mmpretrain import ImageClassificationInferencer

inferencer = ImageClassificationInferencer('config.py', pretrained='weights.pth')
found = inferencer('{PHOTO}')[0]
print(found['pred_class'], found['pred_score'])
"""
GREY_OF_MMPRETRAIN = OF_MMPRETRAIN.replace(f"'{PHOTO}'", f"imread('{PHOTO}', flag='grayscale')")  # reads colours itself
OF_THIS_PACKAGE = f"""from r2kd_mm.export import Predictor  # which knows the transforms of this network

found = Predictor('.')('{PHOTO}', top=1)[0]
print(found.name, found.probability)
"""


def snippet(description: Mapping[str, Any]) -> str:
    """Return Python code that predicts a photo and prints class and probability; it runs in the export's folder.

    Args:
        description: Content of ``export.json``.

    Example:
        >>> print(snippet(dict(format='mmpretrain', preprocessing=dict(channel_order='RGB'))).splitlines()[0])
        from mmpretrain import ImageClassificationInferencer
    """
    name, prepared = description['format'], description['preprocessing']
    if name == 'mmpretrain':
        grey = f'from mmcv import imread\n{GREY_OF_MMPRETRAIN}'
        return grey if prepared['channel_order'] == 'GRAY' else OF_MMPRETRAIN
    backends = {step.get('backend', OPENCV) for step in prepared['transforms'] if 'scale' in step}
    steps = [_step(step, OPENCV in backends) for step in prepared['transforms']]
    if len(backends) > 1 or None in steps:
        return OF_THIS_PACKAGE
    imports, network = NETWORKS[name]
    if (name, description.get('precision')) == ('exported', 'int8'):
        imports = (*imports, INT8_OPERATORS)
    needed = ['import cv2'] if OPENCV in backends else []
    load = _opened_by_opencv if OPENCV in backends else _opened_by_pillow
    lines = [
        'import json',
        *needed,
        'import numpy as np',
        *imports,
        *([] if needed else ['from PIL import Image, ImageOps']),
        '',
        *load(prepared['channel_order'], [line for step in steps for line in step or ()]),
        *_normalised(prepared['mean'], prepared['std']),
        'images = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)',
        *_answer(network, 'torch' in ''.join(imports), description['output']['name'] == 'probabilities'),
    ]
    return '\n'.join(lines) + '\n'


def _opened_by_pillow(order: str, steps: Sequence[str]) -> list[str]:
    opened = f"image = ImageOps.exif_transpose(Image.open('{PHOTO}')).convert('RGB')"
    pixels = {
        'RGB': 'np.asarray(image)',
        'BGR': 'np.asarray(image)[..., ::-1]',
        'GRAY': "np.asarray(image.convert('L'))[..., None]",
    }
    return [opened, *steps, f'pixels = {pixels[order]}']


def _opened_by_opencv(order: str, steps: Sequence[str]) -> list[str]:
    pixels = {
        'RGB': 'image[..., ::-1]',
        'BGR': 'image',
        'GRAY': 'cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]',
    }
    return [f"image = cv2.imread('{PHOTO}')", *steps, f'pixels = {pixels[order]}']


def _step(step: Mapping[str, Any], by_opencv: bool) -> list[str] | None:
    """The lines of a transform; ``None`` of one that takes more than a few."""
    given = {name: value for name, value in step.items() if name not in ('type', 'backend', 'interpolation')}
    size = '(image.shape[1], image.shape[0])' if by_opencv else 'image.size'
    if step['type'] == 'CenterCrop' and given.keys() == {'crop_size'} and isinstance(given['crop_size'], int):
        side = given['crop_size']
        corner = f'left, top = (max(0, round((side - {side}) / 2)) for side in {size})'
        if by_opencv:
            return [corner, f'image = image[top : top + {side}, left : left + {side}]']
        return [corner, f'image = image.crop((left, top, left + {side}, top + {side}))']
    kind = str(step.get('interpolation', 'bilinear'))
    if step['type'] == 'ResizeEdge' and given.keys() <= {'scale', 'edge'} and given.get('edge', 'short') == 'short':
        wanted = f'[{given["scale"]} * side // min({size}) for side in {size}]'
    elif step['type'] == 'Resize' and given.keys() == {'scale'} and not isinstance(given['scale'], int):
        wanted = str(tuple(given['scale']))
    else:
        return None
    if by_opencv:
        kinds = dict(bilinear='LINEAR', bicubic='CUBIC', nearest='NEAREST', area='AREA', lanczos='LANCZOS4')
        return (
            [f'image = cv2.resize(image, {wanted}, interpolation=cv2.INTER_{kinds[kind]})'] if kind in kinds else None
        )
    return [f'image = image.resize({wanted}, Image.Resampling.{kind.upper()})']


def _normalised(mean: Sequence[float], std: Sequence[float]) -> list[str]:
    if not any(mean) and all(value == 1 for value in std):
        return []
    return [f'pixels = (pixels - {list(mean)}) / {list(std)}']


def _answer(network: str, is_torch: bool, is_probability: bool) -> list[str]:
    row = f'{network}[0].detach().numpy()' if is_torch else f'{network}[0]'
    found = [f'scores = {row}'] if is_probability else [f'logits = {row}', 'scores = np.exp(logits - logits.max())']
    share = 'scores.max()' if is_probability else 'scores.max() / scores.sum()'
    return [*found, f"print(json.load(open('export.json', encoding='utf-8'))['classes'][scores.argmax()], {share})"]
