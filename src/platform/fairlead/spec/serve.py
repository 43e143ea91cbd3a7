"""The ``serve`` section: how a version answers."""

from typing import Literal

from pydantic import Field

from fairlead.spec.quantities import ByteCount, Seconds, Section


class RequestLog(Section):
    """The Parquet log of requests and answers."""

    enabled: bool = Field(True, description="Write it.")
    rotate_rows: int = Field(50_000, ge=1, description="Rows per file at most.")
    rotate_seconds: Seconds = Field(5.0, gt=0, description="Age of an open file at most.")
    queue_rows: int = Field(
        20_000, ge=1, description="Rows waiting to be written at most; more are dropped and counted."
    )


class Serve(Section):
    """How a version answers."""

    backend: Literal["ray", "process"] = Field("ray", description="ray: Ray Serve; process: one server process.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    replicas: int = Field(1, ge=1, description="Ray Serve: replicas of the ingress.")
    max_batch: int = Field(64, ge=1, description="Requests answered in one call of the network at most.")
    batch_wait_ms: float = Field(0.0, ge=0, description="Wait for more requests; 0: only those that already wait.")
    max_queue: int = Field(256, ge=1, description="Waiting requests at most; more get 429 with Retry-After.")
    deadline_ms: float = Field(200, gt=0, description="Later than this the fallback answers.")
    max_body: ByteCount = Field(10 * 2**20, ge=1024, description="Largest request body; larger ones get 413.")
    fallback: Literal["prior", "none"] = Field(
        "prior", description="prior: the training split's label rate, marked as fallback; none: 503 with Retry-After."
    )
    sticky: str | None = Field(
        None,
        description="Header (header:NAME) or input field whose value keeps a client on one arm. Default: request id.",
    )
    log: RequestLog = Field(default_factory=RequestLog, description="The Parquet log of requests and answers.")
