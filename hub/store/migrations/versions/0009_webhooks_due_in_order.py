"""What is due to a subscription is found in the order in which it is sent."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_WAITING = sa.text("state = 'waiting'")


def upgrade() -> None:
    """Make the index anew, with the place in the log behind the time."""
    op.drop_index("ix_webhook_deliveries_due", "webhook_deliveries")
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["subscription", "next", "idx"],
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )
