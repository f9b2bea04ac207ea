"""`PostgresStore`: runs in PostgreSQL, for many processes, through SQLAlchemy 2 and asyncpg or psycopg 3."""

from .alembic import alembic_include_name
from .drivers import StoreUnavailableError
from .engines import pooler_engine
from .store import PostgresStore

__all__ = ["PostgresStore", "StoreUnavailableError", "alembic_include_name", "pooler_engine"]
