"""Pages of assignments to whole sets. Pure."""

from __future__ import annotations

from cluster.assignments import Assignments
from cluster.errors import Failed
from cluster.protocol import Page
from cluster.topics import topic_of


class OutOfOrder(Failed):
    """A set is older than what was acted on, or a change came without the set that it changes."""


class Assembler:
    """Puts the pages of one session together, starting from what an earlier session or the journal left.

    Nothing of a set counts before its last page is there; a full set takes the place of everything but the topics that
    are kept.
    """

    def __init__(self, epoch: int, start: Assignments) -> None:
        self._epoch = epoch
        self._current = start
        self._complete = False
        self._pages: list[Page] = []

    def feed(self, page: Page) -> Assignments | None:
        """Take the next page; gives the new assignments when it was the last of its set.

        Raises OutOfOrder for what must not be acted on; the session has to begin anew then.
        """
        if page.epoch != self._epoch:
            raise OutOfOrder(f"assignments of session {page.epoch} came in session {self._epoch}")
        if page.revision < self._current.revision:
            raise OutOfOrder(
                f"assignments of revision {page.revision} came after revision {self._current.revision} was acted on"
            )
        if not page.full and not self._complete:
            raise OutOfOrder("a change of assignments came before the full set")
        if self._pages and (self._pages[0].full, self._pages[0].revision) != (page.full, page.revision):
            raise OutOfOrder("a set of assignments began before the last one had ended")
        self._pages.append(page)
        if not page.last:
            return None
        items = {i: item for i, item in self._current.items.items() if not page.full or topic_of(i) in page.kept}
        for part in self._pages:
            for ident in part.removed:
                items.pop(ident, None)
            items.update((item.ident, item) for item in part.items)
        self._pages.clear()
        self._complete = True
        self._current = Assignments(self._epoch, page.revision, items)
        return self._current
