"""`make publish`: write everything that is generated from the code."""

from tests.publish.documents import ROOT, documents, strays


def main() -> None:
    for path in strays():
        (ROOT / path).unlink()
        print(f"removed {path}")
    for path, raw in documents().items():
        file = ROOT / path
        if not file.exists() or file.read_bytes() != raw:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(raw)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
