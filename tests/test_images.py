"""Images and masks: every form that files come in, and every way in which they can be bad."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from point_prompt_defender.errors import ImageError
from point_prompt_defender.images import load_image, load_mask, save_mask

RAMP = np.stack(np.meshgrid(np.arange(40) * 6, np.arange(30) * 8), -1).astype(np.uint8)  # (30, 40, 2)
RGB = np.concatenate([RAMP, np.full((30, 40, 1), 77, np.uint8)], -1)  # (30, 40, 3)


def saved(tmp_path, array, name="image.png", mode=None, **options):
    path = tmp_path / name
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array, mode)
    picture.save(path, **options)
    return path


def test_rgb_comes_back_as_it_is_and_writable(tmp_path):
    image = load_image(saved(tmp_path, RGB))
    np.testing.assert_array_equal(image, RGB)
    assert image.dtype == np.uint8 and image.flags.writeable


def test_grey_is_repeated(tmp_path):
    image = load_image(saved(tmp_path, RGB[..., 0]))
    np.testing.assert_array_equal(image, np.repeat(RGB[..., :1], 3, 2))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    suffix = ".tif" if mode == "CMYK" else ".png"
    image = load_image(saved(tmp_path, Image.fromarray(RGB).convert(mode), f"image{suffix}"))
    assert image.shape == (30, 40, 3) and image.dtype == np.uint8
    assert image.std() > 10


def test_transparent_pixels_are_white_and_half_transparent_ones_half_white(tmp_path):
    alpha = np.full((30, 40, 1), 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 128
    image = load_image(saved(tmp_path, np.concatenate([np.zeros_like(RGB), alpha], -1)))
    assert (image[:10] == 255).all() and (image[20:] == 0).all()
    assert np.abs(image[10:20].astype(int) - 127).max() <= 1


def test_a_palette_may_be_transparent(tmp_path):
    picture = Image.new("P", (4, 3), 0)
    picture.putpalette([0, 0, 0, 200, 10, 10])
    picture.putpixel((2, 1), 1)
    image = load_image(saved(tmp_path, picture, transparency=0))
    assert image[1, 2].tolist() == [200, 10, 10] and image[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_keeps_its_full_range(tmp_path, suffix):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    image = load_image(saved(tmp_path, values, f"image{suffix}"))
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_grey_is_not_stretched(tmp_path):
    image = load_image(saved(tmp_path, np.full((2, 2), 2570, np.uint16)))
    assert (image == 10).all()


def test_floats_in_0_to_1_are_kept_and_others_stretched(tmp_path):
    unit = load_image(saved(tmp_path, np.array([[0.2, 0.4]], np.float32), "unit.tif"))
    assert unit[0, :, 0].tolist() == [51, 102]
    wide = load_image(saved(tmp_path, np.array([[-50, 10, 50, np.nan]], np.float32), "wide.tif"))
    assert wide[0, :, 0].tolist() == [0, 153, 255, 0]


def test_a_float_image_without_a_finite_value(tmp_path):
    with pytest.raises(ImageError, match="no finite value"):
        load_image(saved(tmp_path, np.full((2, 2), np.nan, np.float32), "nan.tif"))


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, 1)), (8, lambda a: np.rot90(a, -1))],
)
@pytest.mark.parametrize("array", [RGB, np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50])
def test_exif_rotation_is_applied(tmp_path, orientation, undo, array):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = load_image(saved(tmp_path, array, "upright.png"))
    rotated = load_image(saved(tmp_path, np.ascontiguousarray(undo(array)), "rotated.png", exif=exif))
    np.testing.assert_array_equal(rotated, upright)


@pytest.mark.parametrize("array", [RGB[:1, :1], RGB[:1, :1, 0], np.full((1, 1), 65535, np.uint16)])
def test_one_pixel(tmp_path, array):
    assert load_image(saved(tmp_path, array)).shape == (1, 1, 3)


def test_of_an_animation_the_first_frame(tmp_path):
    first, second = Image.new("L", (5, 4), 10), Image.new("L", (5, 4), 200)
    image = load_image(saved(tmp_path, first, "moving.gif", save_all=True, append_images=[second]))
    assert (image == 10).all()


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    path = saved(tmp_path, RGB)
    assert load_image(path, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(ImageError, match="million pixels; make it smaller"):
        load_image(path, max_pixels=1199)


def test_a_decompression_bomb_by_the_default_limit(tmp_path):
    for side in (11_500, 14_000):  # over our limit, and over Pillow's own
        path = saved(tmp_path, Image.new("1", (side, side)), compress_level=1)
        with pytest.raises(ImageError, match="120 million pixels"):
            load_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".gif", ".webp"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated(tmp_path, suffix, share):
    path = saved(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), f"image{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageError, match=r"damaged or cut short|not an image") as caught:
        load_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"no image at all", "not an image"), (b"\x89PNG\r\n\x1a\n", "image")]
)
def test_not_an_image(tmp_path, content, message):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    for load in (load_image, load_mask):
        with pytest.raises(ImageError, match=message):
            load(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match="There is no image"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_never_raise_anything_but_image_errors(tmp_path, data):
    suffix = data.draw(st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP"]))
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, suffix)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutated"
    path.write_bytes(content)
    try:
        image = load_image(path, max_pixels=1_000_000)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_binary_masks_come_back(tmp_path, mask):
    path = tmp_path / "mask.png"
    save_mask(path, mask)
    loaded = load_mask(path, mask.shape)
    assert loaded.dtype == bool
    np.testing.assert_array_equal(loaded, mask)


@pytest.mark.parametrize("largest", [3, 255, 256, 65535])
def test_instance_maps_come_back(tmp_path, largest):
    instances = np.array([[0, 1, 2], [largest, 0, 1]])
    save_mask(tmp_path / "mask.png", instances)
    loaded = load_mask(tmp_path / "mask.png", (2, 3))
    assert loaded.dtype == np.int64
    np.testing.assert_array_equal(loaded, instances)


def test_a_written_mask_is_an_ordinary_picture(tmp_path):
    save_mask(tmp_path / "mask.png", np.array([[True, False]]))
    with Image.open(tmp_path / "mask.png") as picture:
        assert np.asarray(picture).tolist() == [[255, 0]]


@pytest.mark.parametrize(
    "bad", [np.array([[70000, 1]]), np.array([[-1, 0]]), np.zeros((0, 3), bool), np.zeros(3, bool)]
)
def test_masks_that_no_png_can_hold(tmp_path, bad):
    with pytest.raises(ImageError):
        save_mask(tmp_path / "mask.png", bad)
    assert not list(tmp_path.iterdir())


def test_palette_masks_count_their_indices(tmp_path):
    picture = Image.new("P", (3, 1))
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.putdata([0, 1, 2])
    assert load_mask(saved(tmp_path, picture)).tolist() == [[0, 1, 2]]


def test_rgb_masks_of_equal_channels_are_grey_and_others_refused(tmp_path):
    grey = np.repeat(np.array([[0, 255]], np.uint8)[..., None], 3, 2)
    assert load_mask(saved(tmp_path, grey)).tolist() == [[False, True]]
    with pytest.raises(ImageError, match="in colours"):
        load_mask(saved(tmp_path, RGB))


def test_a_mask_of_another_size(tmp_path):
    save_mask(tmp_path / "mask.png", np.ones((30, 40), bool))
    with pytest.raises(ImageError, match="40 x 30 pixels but its image 30 x 40"):
        load_mask(tmp_path / "mask.png", (40, 30))


def test_a_mask_of_fractions(tmp_path):
    with pytest.raises(ImageError, match="fractions"):
        load_mask(saved(tmp_path, np.array([[0.0, 0.5, 0.7]], np.float32), "mask.tif"))
