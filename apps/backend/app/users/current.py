"""Who is asking.

There are no accounts yet: everybody is the one user that the first migration creates. Sign-in
replaces this function and nothing else, because every layer below takes the user as an argument.
"""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends

LOCAL_USER_ID = UUID("00000000-0000-4000-8000-000000000001")


@dataclass(frozen=True)
class User:
    id: UUID


async def current_user() -> User:
    return User(id=LOCAL_USER_ID)


CurrentUser = Annotated[User, Depends(current_user)]
