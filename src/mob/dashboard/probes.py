"""`/livez` and `/readyz`, for Kubernetes and load balancers, in the form that Kubernetes' own servers use.

What counts is the status: 200 or 503. The body is text: `ok`; or, with `?verbose` or after a failure, a line for each
check. No login is needed, so only the names of roles and the numbers of ready workers are shown. However many requests
there are, the Kingpin is asked only a few times a second.
https://kubernetes.io/docs/reference/using-api/health-checks
"""

from __future__ import annotations

import asyncio
from time import monotonic

from starlette.requests import Request
from starlette.responses import Response

from mob.core.probing import chosen, told
from mob.peer.operating.steering import Steering
from mob.wire import messages as m

ANSWER_TIMEOUT = 3.0
"""Seconds in which the Kingpin has to answer."""
FRESH = 0.2
"""Seconds for which its answer is reused."""
Check = tuple[bool, str]
"""True if the check passed, and its text."""


class Probes:
    """The handlers of probes."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._asked: asyncio.Task[m.ReadinessIs | None] | None = None
        self._answered_at = 0.0

    def __repr__(self) -> str:
        return f"<Probes of {self._steering!r}>"

    async def live(self, request: Request) -> Response:
        """Return whether the Kingpin answers."""
        answer = await self._answer()
        return _said(request, "livez", [_kingpin(answer)])

    async def ready(self, request: Request) -> Response:
        """Return whether each role can take work; `?role=` selects some of them, `?exclude=` leaves some out."""
        answer = await self._answer()
        checks = [_kingpin(answer)]
        if answer is not None:
            names, excluded = request.query_params.getlist("role"), request.query_params.getlist("exclude")
            if unknown := {*names, *excluded} - {role.name for role in answer.roles}:
                text = f"there is no role {', '.join(sorted(repr(name[:100]) for name in unknown))}\n"
                return Response(text, 400, media_type="text/plain")
            if answer.is_stopping:
                checks.append((False, "app: stopping"))
            checks += [(role.is_ready, told(role)) for role in chosen(answer.roles, names, excluded)]
        return _said(request, "readyz", checks)

    async def _answer(self) -> m.ReadinessIs | None:
        """Return the Kingpin's answer, or its last one if that is recent; None if it does not answer."""
        if self._asked is None or (self._asked.done() and monotonic() > self._answered_at + FRESH):
            self._asked = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asked)

    async def _ask(self) -> m.ReadinessIs | None:
        try:
            return await asyncio.wait_for(self._steering.readiness(), ANSWER_TIMEOUT)
        except Exception:  # noqa: BLE001  whatever failed, there is no answer
            return None
        finally:
            self._answered_at = monotonic()


def _kingpin(answer: m.ReadinessIs | None) -> Check:
    return answer is not None, "kingpin: " + (
        "answers" if answer is not None else f"no answer within {ANSWER_TIMEOUT:g} s"
    )


def _said(request: Request, name: str, checks: list[Check]) -> Response:
    is_well = all(ok for ok, _ in checks)
    text = "ok\n"
    if not is_well or "verbose" in request.query_params:
        lines = [f"[{'+' if ok else '-'}]{text}\n" for ok, text in checks]
        text = "".join([*lines, f"{name} check {'passed' if is_well else 'failed'}\n"])
    return Response(text, 200 if is_well else 503, media_type="text/plain")
