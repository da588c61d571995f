"""Text that never shows itself: tokens open what belongs to one signer or one sender."""


class Hidden(str):
    """A text in every respect, save that its repr tells nothing of it.

    Methods of `str` give plain text back: wrap what they give again, in the same expression.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"
