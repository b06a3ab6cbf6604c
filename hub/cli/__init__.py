"""The program ``nhri-hub``: a thin client of docs/protocol.md, so that the hub has one writer."""
