"""Everything that can go wrong, once.

    HubError
    ├── InvalidRequest               400   the body or a parameter is wrong
    │   ├── ContextLengthExceeded    400
    │   ├── ContentPolicyViolation   400
    │   ├── InvalidImage             400   an image cannot be had, or is none
    │   ├── Unsupported              400   the site or the worker cannot do it
    │   └── UnsupportedParameter     400   no live worker honours it
    ├── InvalidApiKey                401
    ├── SignInRefused                401   a person's address or password
    ├── Forbidden                    403
    │   ├── CrossSite                403   a form that another page sent
    │   ├── AccountDisabled          403
    │   ├── ModelNotAllowed          403   the key is not for this model
    │   └── InsufficientScope        403   the key is not for this endpoint
    ├── ModelNotFound                404
    ├── UnknownUrl                   404
    ├── NotFound                     404   no such user, key, tier, price
    │   └── InvitationNotFound       404   unknown, used, revoked or expired
    ├── MethodNotAllowed             405
    ├── AlreadyExists                409
    ├── IdempotencyKeyInUse          409   the same key, another request
    ├── RequestTooLarge              413
    │   └── AttachmentTooLarge       413
    ├── MisdirectedRequest           421   not a host that this hub answers for
    ├── RateLimited                  429   a window is full, or too many run at once
    │   └── LargerThanLimit          429   it would never fit the window
    ├── TooManySignIns               429   refused too often, or all at once
    ├── InsufficientQuota            429   the budget is spent
    ├── QueueFull                    429   too many are waiting
    ├── UpstreamRateLimited          429   the site asked for a pause
    ├── InternalError                500   a defect of ours
    ├── UpstreamError                502
    ├── UpstreamContractChanged      502   the site no longer looks as it did
    ├── WorkerLost                   502   the tab or agent vanished in mid-answer
    ├── SlowCaller                   502   the caller did not read its answer
    ├── HubStopped                   502   the hub itself ended in mid-answer
    ├── NoWorkerAvailable            503
    ├── TooManyCallers               503   the host has only so many processes
    ├── HubAbsent                    503   behind Passenger: the hub does not start
    ├── ShuttingDown                 503
    ├── StorageFailed                503   the journal could not be written
    ├── ContentUnreadable            503   the vault's key for it is not here
    ├── QueueTimeout                 504
    └── UpstreamTimeout              504

The docstring of a class is the message that a caller reads: what is wrong, and what to do.
"""

import math
from typing import Any, ClassVar

LONGEST_RETRY_S = 120
"""SDKs give up on a longer Retry-After; above it `x-should-retry: false` goes along."""


class HubError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None
    permanent: ClassVar[bool] = False
    """Trying again cannot help, although SDKs retry this status."""

    settled = False
    """It ended a request that had been accepted."""

    def __init__(
        self, message: str = "", *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        """`retry_after` is in seconds from now; callers see it rounded up."""
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.param = param
        self.retry_after = retry_after
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The error as callers get it; all four keys are always there."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """What the headers add to the body: when to come back, and whether at all."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
            headers["retry-after-ms"] = str(max(1, math.ceil(self.retry_after * 1000)))
        if self.permanent or (self.retry_after or 0) > LONGEST_RETRY_S:
            headers["x-should-retry"] = "false"
        return headers


class InvalidRequest(HubError):
    """The request is not valid. Compare it with the API reference."""

    status = 400
    type = "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    """The prompt is longer than this model accepts. Shorten the messages and try again."""

    code = "context_length_exceeded"


class ContentPolicyViolation(InvalidRequest):
    """The site's moderation refused this prompt. Change the prompt; sending it again will not help."""

    code = "content_policy_violation"


class InvalidImage(InvalidRequest):
    """An image could not be read. Send a PNG, JPEG, WebP or GIF of at most 10 MiB."""

    code = "invalid_image"


class Unsupported(InvalidRequest):
    """The worker cannot do what this request asks for. Use another model or leave that part out."""

    code = "unsupported"


class UnsupportedParameter(InvalidRequest):
    """No live worker honours this parameter for this model. Leave it out or choose another model."""

    code = "unsupported_parameter"


class InvalidApiKey(HubError):
    """The API key is missing, malformed, unknown, revoked or expired. Send `Authorization: Bearer <key>`
    with a key made by `lmarena-hub key create`."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class SignInRefused(HubError):
    """This address and this password do not belong to an account that may sign in."""

    status = 401
    type = "invalid_request_error"
    code = "sign_in_refused"


class Forbidden(HubError):
    """This is not allowed."""

    status = 403
    type = "permission_error"


class CrossSite(Forbidden):
    """This form was not sent by a page of this hub. Open the hub's own page and try again. If that does not
    help, the operator should set public_url or trusted_proxies."""

    code = "cross_site"


class AccountDisabled(Forbidden):
    """The account of this key is disabled. Ask the operator of this hub."""

    code = "account_disabled"


class ModelNotAllowed(Forbidden):
    """This API key may not use this model. GET /v1/models lists those it may."""

    code = "model_not_allowed"


class InsufficientScope(Forbidden):
    """This API key is not made for this endpoint. Make one with that scope."""

    code = "insufficient_scope"


class ModelNotFound(HubError):
    """No worker has ever offered this model. GET /v1/models lists those that are live."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class UnknownUrl(HubError):
    """There is nothing at this URL."""

    status = 404
    type = "invalid_request_error"
    code = "unknown_url"


class NotFound(HubError):
    """There is no such thing."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class InvitationNotFound(NotFound):
    """This invitation is not good, or not good any more: each works once, and for some days only. Ask the
    operator of this hub for another."""

    code = "invitation_not_found"


class MethodNotAllowed(HubError):
    """This URL does not answer that method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class AlreadyExists(HubError):
    """There is one already."""

    status = 409
    type = "invalid_request_error"
    code = "already_exists"
    permanent = True


class IdempotencyKeyInUse(HubError):
    """This Idempotency-Key was sent with another request. Use a new key for each request, and the same one only to
    send the same request again."""

    status = 409
    type = "idempotency_error"
    code = "idempotency_key_in_use"
    permanent = True


class RequestTooLarge(HubError):
    """The request body is larger than this hub accepts."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class AttachmentTooLarge(RequestTooLarge):
    """The site refused an attachment as too large. Send a smaller one."""

    code = "attachment_too_large"


class MisdirectedRequest(HubError):
    """This hub does not answer for this host. If it should, the operator adds the name to allowed_hosts."""

    status = 421
    type = "invalid_request_error"
    code = "misdirected_request"


class RateLimited(HubError):
    """A limit of this account is reached. Come back after the time in Retry-After."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self, message: str = "", *, unit: str = "requests", retry_after: float | None = None
    ) -> None:
        """`unit` says what there were too many of: `requests` or `tokens`."""
        super().__init__(message, retry_after=retry_after)
        self.unit = unit

    def body(self) -> dict[str, Any]:
        body = super().body()
        body["error"]["type"] = self.unit
        return body


class LargerThanLimit(RateLimited):
    """This request alone is larger than the limit of this account. Shorten it, or lower `max_tokens`."""

    permanent = True


class TooManySignIns(HubError):
    """Too many sign-ins were refused here, or wait at once. Come back after the time in Retry-After."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_sign_ins"


class InsufficientQuota(HubError):
    """The budget of this account is spent. Ask the operator of this hub, or wait for the next period."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    permanent = True


class QueueFull(HubError):
    """Too many requests are waiting for a worker. Come back after the time in Retry-After."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class UpstreamRateLimited(HubError):
    """The site limits how often this model may be asked. Come back after the time in Retry-After."""

    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"


class InternalError(HubError):
    """The hub failed on its own account. The operator finds the request id in the log."""

    code = "internal_error"


class UpstreamError(HubError):
    """The model's provider failed. Trying again may help."""

    status = 502
    code = "upstream_error"


class UpstreamContractChanged(HubError):
    """The site no longer behaves as the worker expects, so its answer could not be read. The operator has
    been told."""

    status = 502
    code = "upstream_contract_changed"
    permanent = True


class WorkerLost(HubError):
    """The worker that was answering vanished. What arrived so far is incomplete; ask again for a whole
    answer."""

    status = 502
    code = "worker_lost"


class SlowCaller(HubError):
    """This answer was not read fast enough, and was stopped. Read the stream as it comes."""

    status = 502
    code = "slow_caller"


class HubStopped(HubError):
    """The hub stopped while it had this request. What arrived so far is incomplete; ask again for a whole
    answer."""

    status = 502
    code = "hub_stopped"


class NoWorkerAvailable(HubError):
    """No live worker can answer for this model now. Come back after the time in Retry-After."""

    status = 503
    type = "service_unavailable_error"
    code = "no_worker_available"


class TooManyCallers(HubError):
    """This host answers only a few callers at once. Come back after the time in Retry-After."""

    status = 503
    type = "service_unavailable_error"
    code = "too_many_callers"


class HubAbsent(HubError):
    """The hub does not start here. The operator finds the reason in hub.log, in the data directory."""

    status = 503
    type = "service_unavailable_error"
    code = "hub_absent"


class ShuttingDown(HubError):
    """The hub is shutting down. Come back after the time in Retry-After."""

    status = 503
    type = "service_unavailable_error"
    code = "shutting_down"


class StorageFailed(HubError):
    """The hub cannot write its journal, so it takes no requests now. The operator should look at the
    disk."""

    status = 503
    type = "service_unavailable_error"
    code = "storage_failed"


class ContentUnreadable(HubError):
    """What is stored here cannot be decrypted: it was changed, or is not where it belongs. The operator should
    restore a backup."""

    status = 503
    type = "service_unavailable_error"
    code = "content_unreadable"
    permanent = True


class QueueTimeout(HubError):
    """All workers for this model stayed busy for as long as a request may wait. Try again later."""

    status = 504
    code = "queue_timeout"


class UpstreamTimeout(HubError):
    """The model fell silent for too long. Trying again may help."""

    status = 504
    code = "upstream_timeout"
