"""The default segmenter: MobileSAM, encoder through onnxruntime, decoder in PyTorch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from .base import (
    Capabilities,
    Embedding,
    Frame,
    Multimask,
    Prediction,
    best_of,
    check_batch,
    check_image,
    wants_multimask,
)
from .sam_decoder import SamDecoder
from .sam_onnx import read_decoder_weights

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)
INPUT_SIZE = 1024


class MobileSamSegmenter:
    """MobileSAM from two ONNX files; a `Segmenter`.

    Args:
        encoder: path of the image encoder, ONNX.
        decoder: path of the exported decoder, ONNX; its weights are read into PyTorch.
        device: where the decoder runs ("cpu", "cuda"); the encoder runs on the CPU.
        dtype: torch.float32 (exact) or torch.bfloat16 (faster where the processor has it, at a small loss that
            docs/performance.md states).
        threads: CPU threads of the encoder, 0 for all.
    """

    name = "mobile-sam"
    input_size = INPUT_SIZE
    capabilities = Capabilities()

    def __init__(
        self,
        encoder: str | os.PathLike[str],
        decoder: str | os.PathLike[str],
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        threads: int = 0,
    ) -> None:
        self._encoder_path = os.fspath(encoder)
        self.fingerprint = hashlib.sha256(Path(encoder).read_bytes()).hexdigest()[:12]
        self._threads = threads
        self._session = None
        self.device, self.dtype = torch.device(device), dtype
        self.decoder = SamDecoder(INPUT_SIZE)
        self.decoder.load_state_dict(read_decoder_weights(decoder))
        self.decoder = self.decoder.finish_loading().to(self.device, dtype)

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode an image (H, W, 3) uint8 RGB. See `Segmenter.embed`."""
        image = check_image(image)
        frame = Frame.padded(image.shape[:2], INPUT_SIZE)
        height, width = frame.content_size
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR), np.float32)
        square = np.zeros((1, 3, INPUT_SIZE, INPUT_SIZE), np.float32)
        square[0, :, :height, :width] = ((resized - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1)
        session = self._encoder()
        features = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: square})[0][0])
        return self.attach(Embedding(frame, features, image=image))

    def attach(self, embedding: Embedding) -> Embedding:
        """Prepare an embedding that came from a cache (its `native` is missing) for decoding."""
        with _fast_matmul(), torch.no_grad():
            return replace(embedding, native=self.decoder.prepare(embedding.features.to(self.device, self.dtype)))

    def predict(
        self, embedding: Embedding, coords: ArrayLike, labels: ArrayLike, multimask: Multimask = "auto"
    ) -> Prediction:
        """Decode B point sets of equal length. See `Segmenter.predict`."""
        xy, marks = check_batch(coords, labels, self.capabilities)
        several = wants_multimask(multimask, marks)
        with _fast_matmul(), torch.no_grad():
            logits, iou = self.decoder(
                embedding.native,
                torch.as_tensor(embedding.frame.to_input(xy), dtype=torch.float32, device=self.device),
                torch.as_tensor(marks, device=self.device),
                slice(1, 4) if several else slice(0, 1),
            )
        return Prediction(*best_of(logits.float(), iou.float()), embedding.frame)

    def _encoder(self):
        """The encoder's session, made when first needed: 28 MB that decoding alone never loads."""
        if self._session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(
                self._encoder_path, options, providers=["CPUExecutionProvider"]
            )
        return self._session


@contextmanager
def _fast_matmul() -> Iterator[None]:
    """Let float32 products run through oneDNN, which is about twice as fast as the default on many CPUs.

    On processors without matrix units this is exact float32 all the same; the difference to the default order of
    summation stays at 1e-5 of the logits.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
