"""The complete example of README runs, a person signs in a browser, and README's picture is made from both."""

import base64
import io
from datetime import timedelta

import anyio
import loopback
import pytest
from docs_pages import ROOT, complete_example, pictured_code
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.async_api import expect
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from posten_signering.sandbox import Sandbox
from posten_signering.sandbox.__main__ import PAGES_PORT

pytestmark = pytest.mark.anyio
pytest_plugins = ("browser_support",)

# The size in which README shows the picture is about two thirds of this, so the letters are large.
WIDTH, CODE_WIDTH, COLOURS = 1360, 800, 64
PAGE = """<!doctype html><style>
body {{ margin: 0; padding: 20px; display: grid; grid-template-columns: {code_width}px 1fr; gap: 20px; background: #eceae5 }}
pre, img {{ margin: 0; border-radius: 10px; border: 1px solid #c9c5bb; box-sizing: border-box }}
pre {{ padding: 24px; height: 100%; background: #fff; font: 18px/1.95 "DejaVu Sans Mono", monospace; line-height: 1.95 !important }}
.highlight {{ background: none !important }}
img {{ width: 100%; display: block }}
</style>{code}<img src="data:image/png;base64,{image}">"""


def small(content, code):
    """A PNG image with few colours, and with the code as a text in it."""
    texts, file = PngInfo(), io.BytesIO()
    texts.add_text("code", code)
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").quantize(COLOURS).save(file, "PNG", optimize=True, pnginfo=texts)
    return file.getvalue()


async def test_a_person_signs_the_job_of_readme_and_the_picture_shows_its_code(visit, tmp_path):
    signer, artist = await visit(), await visit()
    contract, signed = tmp_path / "contract.pdf", tmp_path / "signed.pdf"
    contract.write_bytes((ROOT / "examples" / "lease.pdf").read_bytes())
    async with (
        Sandbox(empty_queue_wait=timedelta(milliseconds=50)) as sandbox,
        anyio.create_task_group() as tasks,
    ):
        exit_pages = sandbox.exit_urls.completion.removesuffix("/completed")
        code = complete_example().replace(f"http://127.0.0.1:{PAGES_PORT}/exit", exit_pages)
        lines = []
        names = {"__name__": "example", "print": lambda *words: lines.append(words)}
        exec(code, names)
        tasks.start_soon(names["main"], sandbox.client_configuration(), contract, signed)
        await loopback.until(lambda: lines)
        await signer.page.set_viewport_size({"width": 640, "height": 736})
        await signer.page.goto(lines[0][-1])
        sign = signer.page.get_by_role("button", name="Sign")
        await expect(sign).to_be_visible()
        page = await signer.page.screenshot(animations="disabled")
        await sign.click()
        await expect(signer.page.get_by_role("heading", level=1)).to_have_text("Signed")
    assert lines[1:] == [("Signed:", signed), ("The job has ended:", "COMPLETED_SUCCESSFULLY")]
    assert signed.read_bytes().startswith(b"%PDF-")

    await artist.page.set_viewport_size({"width": WIDTH, "height": 100})
    coloured = highlight(pictured_code(), PythonLexer(), HtmlFormatter(noclasses=True))
    image = base64.b64encode(page).decode()
    await artist.page.set_content(PAGE.format(code_width=CODE_WIDTH, code=coloured, image=image))
    picture = await artist.screenshot("first-signature")
    picture.write_bytes(small(picture.read_bytes(), pictured_code()))
    assert picture.stat().st_size < 150_000
