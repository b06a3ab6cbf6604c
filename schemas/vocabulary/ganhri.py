"""Accreditation of national human rights institutions by GANHRI, as dated facts.

An A or a B means that an institution complies with the Paris Principles fully or in part. The table
holds what the exchange's own body of public records supports, and nothing else: most institutions
of the region have no row, and a row can be older than the latest decision. GANHRI's own chart of
accreditation status is the authority.
"""

from datetime import date
from typing import Literal

import msgspec


class Accreditation(msgspec.Struct, frozen=True):
    """What a record says of one institution's accreditation.

    ``status`` is None where the record tells of a step and of no status held. ``since`` is the
    first day on which the fact is known to hold: for a record dated by month alone, its last day.
    """

    code: str
    status: Literal["A", "B"] | None
    since: date
    note: str
    source: str


ACCREDITATIONS: tuple[Accreditation, ...] = (
    Accreditation(
        "uz",
        None,
        date(2020, 12, 31),
        "Reviewed for the first time by the Sub-Committee on Accreditation, which recommended "
        "B status; the record does not tell of the decision.",
        "https://www.asiapacificforum.net/news/"
        "ganhri-holds-first-virtual-session-its-subcommittee-accreditation/",
    ),
    Accreditation(
        "tm",
        None,
        date(2021, 10, 1),
        "The office drafts its roadmap to accreditation.",
        "https://ashgabat.in/2021/10/01/"
        "the-ombudspersons-office-develops-the-roadmap-to-apply-for-gahnri-accreditation/",
    ),
    Accreditation(
        "uz",
        "B",
        date(2022, 12, 29),
        "The institution states that it holds B status.",
        "https://ombudsman.uz/en/news/2022/12/29/"
        "oliy-majlisning-inson-huquqlari-boyicha-vakili-ombudsman-ning-xalqaro-hamkorlik-"
        "yonalishidagi-faoliyati-haqida-brifing",
    ),
    Accreditation(
        "kg",
        None,
        date(2023, 2, 27),
        "The Ombudsman tells the APF of plans to seek re-accreditation; the record does not tell "
        "which status was held.",
        "https://www.asiapacificforum.net/news/apf-meets-with-ombudsman-of-kyrgyz-republic",
    ),
    Accreditation(
        "tm",
        None,
        date(2024, 5, 29),
        "Statement of compliance sent to the Sub-Committee on Accreditation, for its session of "
        "14-18 October 2024.",
        "https://www.newscentralasia.net/2024/06/10/"
        "undp-supported-ombudspersons-office-in-turkmenistan-to-develop-the-statement-of-"
        "compliance-for-accreditation-with-ganhri/",
    ),
    Accreditation(
        "tm",
        None,
        date(2024, 10, 31),
        "The Sub-Committee on Accreditation spoke with the office; the record does not tell of "
        "its recommendation.",
        "https://www.newscentralasia.net/2024/11/07/"
        "undp-supports-milestone-dialogue-of-ombudsperson-of-turkmenistan-with-ganhri/",
    ),
)
"""In the order of ``since``."""


def ganhri_status(code: str, on: date) -> Accreditation | None:
    """The latest fact about an institution that held on a day, or None when nothing is known."""
    known = [row for row in ACCREDITATIONS if row.code == code and row.since <= on]
    return known[-1] if known else None
