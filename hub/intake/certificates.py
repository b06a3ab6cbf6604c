"""The job of a client certificate: that it was issued is in the log. Pure."""

from hub.intake.batch import Batch, Needs, Outcome, Token
from hub.ledger.queries import CertificateRow
from hub.ledger.sequence import Draft

CERTIFICATE_ISSUED = "certificate.issued"


class IssueCertificate:
    """A certificate that the authority has just signed."""

    def __init__(self, issued: CertificateRow, by: str, token: Token | None = None) -> None:
        """Keep the certificate, and who asked for it."""
        self.token = token
        self._issued = issued
        self._by = by

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Record it; a certificate that is not in the log was not issued by this hub."""
        batch.use(self.token)
        issued = self._issued
        public: dict[str, object] = {"serial": issued.serial, "not_after": issued.not_after}
        index = batch.append(Draft(CERTIFICATE_ISSUED, self._by, issued.code, public))
        batch.write(
            "certificate",
            serial=issued.serial,
            code=issued.code,
            not_after=issued.not_after,
            pem=issued.pem,
        )
        return Outcome(index)
