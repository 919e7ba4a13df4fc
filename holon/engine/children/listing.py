"""Children: the jobs that are parts of one, listed by what the history of that one tells: no store looks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from holon.engine.page_tokens import PageTokens
from holon.engine.records import AT_ONCE, Records, weight_of
from holon.engine.tallies import Tallies
from holon.errors import NotFound
from holon.ports import MAX_PAGE_BYTES, JobFilter, JobRecord

# So many are looked at for a page: where few fit, it has fewer than were asked for.
MOST_LOOKED_AT = 1_000


class PartsListed:
    """Pages of the parts of a job, those that it began last first. Its methods raise StoreUnavailable."""

    def __init__(self, records: Records, tallies: Tallies, pages: PageTokens) -> None:
        self._records = records
        self._pages = pages
        self._tallies = tallies

    def __repr__(self) -> str:
        return f"PartsListed({self._tallies!r})"

    async def page(
        self, parent: str, which: JobFilter, token: str, size: int, fields: Collection[str]
    ) -> tuple[Sequence[JobRecord], str]:
        """A page of them, and the token of the next (empty: that was all). A job that is not its owner's has none.

        A page may be empty, and another one follow.

        Arguments:
            parent: the job's id.
            token: of the page before; empty for the first.
            fields: what is shown of each, by name.
        Raises:
            InvalidArgument: the token is none.
        """
        tokens = self._pages.of("parts", which.owner, parent)
        number = tokens.place(token)
        try:
            above = await self._records.job_of(parent, lambda owner: owner == which.owner)
        except NotFound:
            return (), ""
        ids = (await self._tallies.of(above)).tally.parts()
        # Those that come in meanwhile stand at the end, and so before the page that was read first.
        end = len(ids) if number is None else min(number, len(ids))
        page: list[JobRecord] = []
        room, last = MAX_PAGE_BYTES, max(0, end - MOST_LOOKED_AT)
        while end > last:
            start = max(last, end - AT_ONCE)
            found = await asyncio.gather(*(self._records.job(one) for one in ids[start:end]))
            for at in reversed(range(start, end)):
                # One may not be made yet, or be gone.
                record = found[at - start]
                if record is None or not which.lets(record):
                    continue
                room -= weight_of(record, fields)
                if len(page) == size or (page and room < 0):
                    return page, tokens.token(at + 1)
                page.append(record)
            end = start
        return page, tokens.token(last) if last else ""
