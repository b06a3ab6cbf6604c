"""Making a page: a frozen struct goes into a template and comes out as HTML.

Whatever a template shows is escaped, and a name that nothing stands for is an error. Texts stand
in ``_("…")``, with values as ``_("{count} entries", count=…)``; a text that stands elsewhere is
translated by ``said``. What a participant wrote goes through ``|bdi``, so that its direction
changes nothing around it.
"""

import gettext
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
from babel.numbers import format_decimal
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hub.doors.console import languages


class Frame(msgspec.Struct, frozen=True):
    """What stands around every page. ``here`` is its address without the language.

    ``account`` is who is signed in, and ``role`` as what, with the ``menu`` of what they may open
    and ``csrf`` for their forms; ``size`` is the log's.
    """

    origin: str
    language: str
    path: str
    here: str
    size: int
    account: str | None = None
    role: str = ""
    menu: Sequence[str] = ()
    csrf: str = ""

    @property
    def operator(self) -> bool:
        """Whether they may act, and not only look."""
        return self.role == "operator"


class Pages:
    """The templates and catalogues, read once."""

    def __init__(self) -> None:
        """Read the catalogues; a template is read when it is first shown."""
        self._catalogues = languages.load()
        self._environment = environment("hub.doors.console")

    def render(self, template: str, view: object, frame: Frame) -> str:
        """A page in the frame's language."""
        catalogue = self._catalogues[frame.language]
        number = partial(format_decimal, locale=languages.locale(frame.language))
        return self._environment.get_template(template).render(
            view=view,
            frame=frame,
            languages=languages.LANGUAGES,
            number=number,
            **translators(catalogue, number),
        )


def environment(package: str) -> Environment:
    """The templates of a package, in its folder of that name."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({"bdi": bdi, "time": time})
    return made


def translators(
    catalogue: gettext.NullTranslations, number: Callable[[int], str]
) -> Mapping[str, Callable[..., Markup]]:
    """The functions that templates call texts with."""

    def one(text: str, /, **values: object) -> Markup:
        # Catalogues are ours; what is put into them is escaped.
        return Markup(catalogue.gettext(text)).format(**values)  # noqa: S704

    def several(text: str, texts: str, count: int, /, **values: object) -> Markup:
        found = Markup(catalogue.ngettext(text, texts, count))  # noqa: S704
        return found.format(count=number(count), **values)

    return {"_": one, "said": one, "ngettext": several}


def bdi(text: str) -> Markup:
    """A text of somebody else's, isolated from the direction of what stands around it."""
    return Markup('<bdi dir="auto">{}</bdi>').format(text)


def time(moment: str | None) -> Markup:
    """A time in numbers, to the minute, in UTC; a dash where there is none."""
    if moment is None:
        return Markup("–")
    shown = f"{moment[:10]} {moment[11:16]} UTC"
    return Markup('<time datetime="{}">{}</time>').format(moment, shown)


def named(names: Mapping[str, str], language: str, code: str) -> str:
    """What a participant is called in a language, in English, or by its code."""
    return names.get(language) or names.get(languages.SOURCE) or code
