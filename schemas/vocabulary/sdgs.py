"""The Sustainable Development Goals and their targets.

Source: General Assembly resolution 70/1, "Transforming our world: the 2030 Agenda for Sustainable
Development", paragraph 59. The short titles of the goals are the United Nations' own in English and
Russian; the United Nations has no official ones in the other languages.
"""

from collections.abc import Mapping
from types import MappingProxyType

from schemas.vocabulary.titles import Titles, titles

SDG_GOALS: Mapping[int, Titles] = MappingProxyType(
    {
        1: titles(
            en="No poverty",
            ru="Ликвидация нищеты",
            kk="Кедейшілікті жою",
            ky="Жакырчылыкты жоюу",
            tg="Барҳам додани камбизоатӣ",
            tk="Garyplygy ýok etmek",
            uz_latn="Kambagʻallikka barham berish",
            uz_cyrl="Камбағалликка барҳам бериш",
        ),
        2: titles(
            en="Zero hunger",
            ru="Ликвидация голода",
            kk="Аштықты жою",
            ky="Ачарчылыкты жоюу",
            tg="Барҳам додани гуруснагӣ",
            tk="Açlygy ýok etmek",
            uz_latn="Ochlikka barham berish",
            uz_cyrl="Очликка барҳам бериш",
        ),
        3: titles(
            en="Good health and well-being",
            ru="Хорошее здоровье и благополучие",
            kk="Жақсы денсаулық және әл-ауқат",
            ky="Жакшы ден соолук жана бакубаттуулук",
            tg="Саломатӣ ва некӯаҳволӣ",
            tk="Oňat saglyk we abadançylyk",
            uz_latn="Salomatlik va farovonlik",
            uz_cyrl="Саломатлик ва фаровонлик",
        ),
        4: titles(
            en="Quality education",
            ru="Качественное образование",
            kk="Сапалы білім",
            ky="Сапаттуу билим",
            tg="Таҳсилоти босифат",
            tk="Hilli bilim",
            uz_latn="Sifatli taʼlim",
            uz_cyrl="Сифатли таълим",
        ),
        5: titles(
            en="Gender equality",
            ru="Гендерное равенство",
            kk="Гендерлік теңдік",
            ky="Гендердик теңчилик",
            tg="Баробарии гендерӣ",
            tk="Gender deňligi",
            uz_latn="Gender tengligi",
            uz_cyrl="Гендер тенглиги",
        ),
        6: titles(
            en="Clean water and sanitation",
            ru="Чистая вода и санитария",
            kk="Таза су және санитария",
            ky="Таза суу жана санитария",
            tg="Оби тоза ва санитария",
            tk="Arassa suw we sanitariýa",
            uz_latn="Toza suv va sanitariya",
            uz_cyrl="Тоза сув ва санитария",
        ),
        7: titles(
            en="Affordable and clean energy",
            ru="Недорогостоящая и чистая энергия",
            kk="Қолжетімді және таза энергия",
            ky="Арзан жана таза энергия",
            tg="Энергияи дастрас ва тоза",
            tk="Arzan we arassa energiýa",
            uz_latn="Arzon va toza energiya",
            uz_cyrl="Арзон ва тоза энергия",
        ),
        8: titles(
            en="Decent work and economic growth",
            ru="Достойная работа и экономический рост",
            kk="Лайықты жұмыс және экономикалық өсу",
            ky="Татыктуу жумуш жана экономикалык өсүш",
            tg="Шуғли арзанда ва рушди иқтисодӣ",
            tk="Mynasyp iş we ykdysady ösüş",
            uz_latn="Munosib mehnat va iqtisodiy oʻsish",
            uz_cyrl="Муносиб меҳнат ва иқтисодий ўсиш",
        ),
        9: titles(
            en="Industry, innovation and infrastructure",
            ru="Индустриализация, инновации и инфраструктура",
            kk="Индустрияландыру, инновациялар және инфрақұрылым",
            ky="Индустриялаштыруу, инновациялар жана инфраструктура",
            tg="Саноатикунонӣ, инноватсия ва инфрасохтор",
            tk="Senagatlaşma, innowasiýalar we infrastruktura",
            uz_latn="Sanoatlashtirish, innovatsiyalar va infratuzilma",
            uz_cyrl="Саноатлаштириш, инновациялар ва инфратузилма",
        ),
        10: titles(
            en="Reduced inequalities",
            ru="Уменьшение неравенства",
            kk="Теңсіздікті азайту",
            ky="Теңсиздикти азайтуу",
            tg="Коҳиши нобаробарӣ",
            tk="Deňsizligi azaltmak",
            uz_latn="Tengsizlikni qisqartirish",
            uz_cyrl="Тенгсизликни қисқартириш",
        ),
        11: titles(
            en="Sustainable cities and communities",
            ru="Устойчивые города и населённые пункты",
            kk="Орнықты қалалар мен елді мекендер",
            ky="Туруктуу шаарлар жана калктуу конуштар",
            tg="Шаҳрҳо ва маҳалҳои аҳолинишини устувор",
            tk="Durnukly şäherler we oturymly ýerler",
            uz_latn="Barqaror shaharlar va aholi punktlari",
            uz_cyrl="Барқарор шаҳарлар ва аҳоли пунктлари",
        ),
        12: titles(
            en="Responsible consumption and production",
            ru="Ответственное потребление и производство",
            kk="Жауапты тұтыну және өндіріс",
            ky="Жоопкерчиликтүү керектөө жана өндүрүш",
            tg="Истеъмол ва истеҳсоли масъулона",
            tk="Jogapkärçilikli sarp etmek we önümçilik",
            uz_latn="Masʼuliyatli isteʼmol va ishlab chiqarish",
            uz_cyrl="Масъулиятли истеъмол ва ишлаб чиқариш",
        ),
        13: titles(
            en="Climate action",
            ru="Борьба с изменением климата",
            kk="Климаттың өзгеруімен күрес",
            ky="Климаттын өзгөрүшүнө каршы күрөш",
            tg="Мубориза бо тағйирёбии иқлим",
            tk="Howanyň üýtgemegine garşy göreş",
            uz_latn="Iqlim oʻzgarishiga qarshi kurash",
            uz_cyrl="Иқлим ўзгаришига қарши кураш",
        ),
        14: titles(
            en="Life below water",
            ru="Сохранение морских экосистем",
            kk="Теңіз экожүйелерін сақтау",
            ky="Деңиз экосистемаларын сактоо",
            tg="Ҳифзи экосистемаҳои баҳрӣ",
            tk="Deňiz ekoulgamlaryny gorap saklamak",
            uz_latn="Dengiz ekotizimlarini asrash",
            uz_cyrl="Денгиз экотизимларини асраш",
        ),
        15: titles(
            en="Life on land",
            ru="Сохранение экосистем суши",
            kk="Құрлық экожүйелерін сақтау",
            ky="Кургактыктагы экосистемаларды сактоо",
            tg="Ҳифзи экосистемаҳои хушкӣ",
            tk="Gury ýer ekoulgamlaryny gorap saklamak",
            uz_latn="Quruqlik ekotizimlarini asrash",
            uz_cyrl="Қуруқлик экотизимларини асраш",
        ),
        16: titles(
            en="Peace, justice and strong institutions",
            ru="Мир, правосудие и эффективные институты",
            kk="Бейбітшілік, әділ сот және тиімді институттар",
            ky="Тынчтык, адилет сот жана натыйжалуу институттар",
            tg="Сулҳ, адолат ва ниҳодҳои самаранок",
            tk="Parahatçylyk, adalat we netijeli institutlar",
            uz_latn="Tinchlik, adolat va samarali institutlar",
            uz_cyrl="Тинчлик, адолат ва самарали институтлар",
        ),
        17: titles(
            en="Partnerships for the goals",
            ru="Партнёрство в интересах устойчивого развития",
            kk="Орнықты даму мүддесіндегі әріптестік",
            ky="Туруктуу өнүгүү үчүн өнөктөштүк",
            tg="Шарикӣ барои рушди устувор",
            tk="Durnukly ösüşiň hatyrasyna hyzmatdaşlyk",
            uz_latn="Barqaror rivojlanish yoʻlida hamkorlik",
            uz_cyrl="Барқарор ривожланиш йўлида ҳамкорлик",
        ),
    }
)
"""The 17 goals' short titles."""

# How many numbered targets each goal has, and which lettered ones (means of implementation).
_TARGETS = {
    1: (5, "ab"),
    2: (5, "abc"),
    3: (9, "abcd"),
    4: (7, "abc"),
    5: (6, "abc"),
    6: (6, "ab"),
    7: (3, "ab"),
    8: (10, "ab"),
    9: (5, "abc"),
    10: (7, "abc"),
    11: (7, "abc"),
    12: (8, "abc"),
    13: (3, "ab"),
    14: (7, "abc"),
    15: (9, "abc"),
    16: (10, "ab"),
    17: (19, ""),
}

SDG_TARGETS: Mapping[str, int] = MappingProxyType(
    {
        f"{goal}.{target}": goal
        for goal, (numbered, lettered) in _TARGETS.items()
        for target in (*range(1, numbered + 1), *lettered)
    }
)
"""The 169 targets, ``1.1`` to ``17.19`` in the resolution's order, each with its goal."""


def is_sdg(value: int | str) -> bool:
    """Whether ``value`` is a goal (an integer from 1 to 17) or a target (``16.3``, ``16.a``)."""
    # True == 1 in Python, but true is not a goal in JSON.
    return not isinstance(value, bool) and (value in SDG_GOALS or value in SDG_TARGETS)
