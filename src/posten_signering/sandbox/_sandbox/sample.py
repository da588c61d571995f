"""A contract and its terms, for whoever brings no document of their own."""

import io

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

TERMS = """Terms of the lease

1. The tenant pays on the first of every month.
2. Either party may end the lease with three months' notice.
3. Æ, ø and å are welcome here.
"""


def contract() -> bytes:
    """A PDF of one page."""
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=True)
    canvas.setTitle("Lease")
    _width, height = A4
    canvas.setFont("Helvetica-Bold", 22)
    canvas.drawString(72, height - 110, "Lease")
    canvas.setFont("Helvetica", 12)
    for number, line in enumerate(
        (
            "Between Utleieren AS (the landlord) and the undersigned (the tenants)",
            "on the flat at Storgata 1, 0001 Oslo.",
            "",
            "The rent is 12,000 kroner a month. The terms are in the second document.",
        )
    ):
        canvas.drawString(72, height - 150 - 18 * number, line)
    canvas.showPage()
    canvas.save()
    return file.getvalue()
