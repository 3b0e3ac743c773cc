//! What is compared over HTTP. Each name is one of `benches/src/impls/mod.rs`.

/// Where an implementation keeps its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// Nowhere, or in its own memory.
    None,
    Redis,
    Postgres,
    /// A file of its own.
    Sqlite,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Implementation {
    pub(super) name: &'static str,
    /// What a reader of the table is told.
    pub(super) what: &'static str,
    pub(super) backend: Backend,
    /// Whether it wants a session cookie with each request.
    pub(super) wants_session: bool,
    /// Modes and bytes of body that it is not measured with.
    pub(super) unfit: &'static [(&'static str, u32)],
}

/// What ratios are to.
pub(super) const BARE: &str = "bare";

const fn row(name: &'static str, what: &'static str, backend: Backend) -> Implementation {
    Implementation {
        name,
        what,
        backend,
        wants_session: false,
        unfit: &[],
    }
}

pub(super) const ALL: &[Implementation] = &[
    row(BARE, "axum alone", Backend::None),
    row(
        "bare-sha256",
        "axum, and a SHA-256 of the body",
        Backend::None,
    ),
    row("noop", "a `from_fn` that does nothing", Backend::None),
    row(
        "by-hand-map",
        "hand-written, `Mutex<HashMap>`",
        Backend::None,
    ),
    row(
        "by-hand-redis",
        "hand-written, Redis GET and SET NX",
        Backend::Redis,
    ),
    row(
        "by-hand-redis-batched",
        "hand-written, Redis, batched",
        Backend::Redis,
    ),
    Implementation {
        wants_session: true,
        // It replays without having read the request's body, and a connection with a large one unread
        // is closed.
        unfit: &[("replay", 64 * 1024)],
        ..row(
            "axum-idempotent",
            "axum-idempotent 0.6.0, by header, moka",
            Backend::None,
        )
    },
    Implementation {
        wants_session: true,
        // All requests without a key are one to it.
        unfit: &[("keyless", 200), ("keyless", 64 * 1024)],
        ..row(
            "axum-idempotent-hash",
            "axum-idempotent 0.6.0, by hash, moka",
            Backend::None,
        )
    },
    row("idempotent", "idempotent 2.0.0, memory", Backend::None),
    row(
        "idempotent-valkey",
        "idempotent 2.0.0, Redis",
        Backend::Redis,
    ),
    row("memory", "**ours, memory**", Backend::None),
    row("memory-blake3", "**ours, memory, BLAKE3**", Backend::None),
    row(
        "redis",
        "**ours, Redis, without the replay cache**",
        Backend::Redis,
    ),
    row("redis-cached", "**ours, Redis**", Backend::Redis),
    row("postgres", "**ours, PostgreSQL**", Backend::Postgres),
    row("sqlite", "**ours, SQLite**", Backend::Sqlite),
];
