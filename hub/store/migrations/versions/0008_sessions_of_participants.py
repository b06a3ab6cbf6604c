"""Sessions of participants at the console: opened with a key in place of an access token."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the table; who is signed in stays so."""
    with op.batch_alter_table("sessions") as sessions:
        sessions.alter_column("token", existing_type=sa.String(length=43), nullable=True)
        sessions.add_column(sa.Column("kid", sa.String(length=43)))
