//! Who uses what of the adapters: the functions, and the command line on a deployment.
//!
//! It is written by hand, because sources do not tell it: functions see ports. A mistake shows as
//! a permission that is missing or not used, or as a part of an adapter that nobody uses.

/// What is used of something that a `Stack` gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    /// What the stack calls it; empty for the stack itself.
    pub(crate) handle: &'static str,
    /// What the names of blobs begin with that it has to do with.
    pub(crate) blobs: &'static str,
    /// What is called, by file and name.
    pub(crate) calls: &'static [&'static str],
}

/// What a caller never comes to, though something that it uses would for others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Never {
    pub(crate) call: &'static str,
    pub(crate) why: &'static str,
}

/// Somebody who uses adapters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    /// Where it is wired.
    pub(crate) wired: &'static str,
    pub(crate) uses: &'static [Use],
    pub(crate) never: &'static [Never],
}

const fn of(handle: &'static str, calls: &'static [&'static str]) -> Use {
    let blobs = "";
    Use {
        handle,
        blobs,
        calls,
    }
}

const fn of_blobs(
    handle: &'static str,
    blobs: &'static str,
    calls: &'static [&'static str],
) -> Use {
    Use {
        handle,
        blobs,
        calls,
    }
}

const GET: &str = "state/checkpoints.rs StateTable::get";
const PUT: &str = "state/checkpoints.rs StateTable::put";
const DELETE: &str = "state/checkpoints.rs StateTable::delete";
const LIST: &str = "state/checkpoints.rs StateTable::list";
const SEND: &str = "queue.rs Queues::send";
const DEFER: &str = "queue.rs Queues::defer";
const GIVE_BACK: &str = "queue/delivered.rs Queues::give_back";
const BLOB_PUT: &str = "blobs.rs S3Blobs::put_new";
const BLOB_GET: &str = "blobs.rs S3Blobs::get";
const BLOB_DELETE: &str = "blobs.rs S3Blobs::delete";
const BLOB_LIST: &str = "blobs.rs S3Blobs::list";
const BLOB_MEASURE: &str = "blobs.rs S3Blobs::measure";
const LINKS_GET: &str = "state/links.rs StateTable::get";
const LINKS_PUT: &str = "state/links.rs StateTable::put";
const LINKS_BEGIN: &str = "state/links/claims.rs StateTable::begin_batch";
const LINKS_CLAIM: &str = "state/links/claims.rs StateTable::claim_row";
const LINKS_CONFIRM: &str = "state/links/claims.rs StateTable::end_batch";
const LINKS_LIST: &str = "state/links.rs StateTable::list";

/// What every function does before its first event.
const LOOKS: Use = of(
    "ready",
    &[
        "queue/look.rs Queues::may_send",
        "state/mod.rs StateTable::may_read",
    ],
);
/// The same of those that need the bucket for more than what is too large for a queue.
const LOOKS_AT_BUCKET: Use = of_blobs("ready", MESSAGES, &["blobs.rs S3Blobs::may_write"]);

const SECRETS: Use = of(
    "secrets",
    &[
        "secrets.rs SecretsManager::get",
        "secrets.rs SecretsManager::within",
    ],
);
const ALERTS: Use = of("alerts", &["alerts.rs SnsAlerts::raise"]);
const MESSAGES: &str = "message/";
const PARKED: &str = "parked/";
const RECORDS: &str = "failure/";
const AUDIT: &str = "audit/";

const NO_NAMES: Never = Never {
    call: "state/names.rs StateTable::remember_names",
    why: "only webhooks have names of deliveries",
};
const NO_NAMES_KNOWN: Never = Never {
    call: "state/names.rs StateTable::known_names",
    why: "only webhooks have names of deliveries",
};
const NO_OLD_PACKS: Never = Never {
    call: "state/books.rs StateTable::enter_old",
    why: "it enters packs that it has just made",
};
const NO_SETTLING: Never = Never {
    call: "state/ledger.rs StateTable::settle",
    why: "it settles nothing with what it sends",
};

/// All of them.
pub(crate) const USERS: [User; 6] = [
    User {
        name: "webhook-intake",
        wired: "functions/webhook-intake/src/main.rs",
        uses: &[
            SECRETS,
            LOOKS,
            of("outbox", &[SEND]),
            of_blobs("outbox", MESSAGES, &[BLOB_PUT, BLOB_DELETE]),
        ],
        never: &[NO_OLD_PACKS, NO_SETTLING],
    },
    User {
        name: "recurring-pull",
        wired: "functions/recurring-pull/src/main.rs",
        uses: &[
            SECRETS,
            LOOKS,
            LOOKS_AT_BUCKET,
            ALERTS,
            of("checkpoints", &[GET, PUT, LIST]),
            // A source has no links; what makes systems wants them for targets.
            of("links", &[]),
            of("outbox", &[SEND]),
            of_blobs("outbox", MESSAGES, &[BLOB_PUT]),
            of("queues", &[GIVE_BACK]),
            of("states", &[GET, PUT]),
        ],
        never: &[NO_NAMES, NO_NAMES_KNOWN, NO_OLD_PACKS, NO_SETTLING],
    },
    User {
        name: "initial-load",
        wired: "functions/initial-load/src/main.rs",
        uses: &[
            SECRETS,
            LOOKS,
            LOOKS_AT_BUCKET,
            ALERTS,
            of("checkpoints", &[GET, PUT, DELETE]),
            // Rows that a load did not find.
            of("links", &[LINKS_LIST]),
            of("outbox", &[SEND]),
            of_blobs("outbox", MESSAGES, &[BLOB_PUT]),
            of(
                "ledger",
                &[
                    "state/ledger.rs DynamoLedger::in_flight",
                    "state/ledger.rs DynamoLedger::amend",
                ],
            ),
            of("queues", &[GIVE_BACK]),
            of("states", &[GET, PUT, LIST]),
        ],
        never: &[NO_NAMES, NO_NAMES_KNOWN, NO_OLD_PACKS, NO_SETTLING],
    },
    User {
        name: "apply",
        wired: "functions/apply/src/main.rs",
        uses: &[
            SECRETS,
            LOOKS,
            LOOKS_AT_BUCKET,
            ALERTS,
            of("checkpoints", &[GET, PUT, DELETE]),
            of(
                "links",
                &[
                    LINKS_GET,
                    LINKS_BEGIN,
                    LINKS_CLAIM,
                    LINKS_CONFIRM,
                    LINKS_PUT,
                ],
            ),
            of("outbox", &[SEND, DEFER]),
            of_blobs("outbox", MESSAGES, &[BLOB_PUT, BLOB_GET, BLOB_DELETE]),
            of_blobs("parking", PARKED, &[BLOB_PUT]),
            of("queues", &[GIVE_BACK]),
            of("states", &[GET, PUT]),
            of("breakers", &[GET, PUT, DELETE]),
            of(
                "ledger",
                &[
                    "state/ledger.rs DynamoLedger::settle",
                    "state/ledger.rs DynamoLedger::settled",
                ],
            ),
        ],
        never: &[NO_NAMES, NO_NAMES_KNOWN],
    },
    User {
        name: "retry",
        wired: "functions/retry/src/main.rs",
        uses: &[
            LOOKS,
            LOOKS_AT_BUCKET,
            of(
                "ready",
                &[
                    "queue/look.rs Queues::may_put_off",
                    "failures/mod.rs DynamoFailures::may_read",
                ],
            ),
            of("outbox", &[SEND, DEFER]),
            of_blobs("outbox", MESSAGES, &[BLOB_PUT, BLOB_GET, BLOB_DELETE]),
            of_blobs("parking", PARKED, &[BLOB_LIST, BLOB_GET, BLOB_DELETE]),
            of("states", &[GET, PUT, LIST]),
            of("breakers", &[GET]),
            of("checkpoints", &[GET, PUT, DELETE, LIST]),
            of("ledger", &["state/ledger.rs DynamoLedger::settle"]),
            of_blobs(
                "failures",
                RECORDS,
                &[
                    "failures/mod.rs DynamoFailures::get",
                    "failures/mod.rs DynamoFailures::put",
                    "failures/mod.rs DynamoFailures::put_new",
                    "failures/mod.rs DynamoFailures::query",
                    "failures/mod.rs DynamoFailures::due",
                    "failures/mod.rs DynamoFailures::expire",
                ],
            ),
            of(
                "fold",
                &[
                    "state/fold.rs StateTable::fold",
                    "state/journal/fold.rs StateTable::fold_journal",
                    LIST,
                ],
            ),
            of("queues", &[GIVE_BACK]),
        ],
        never: &[NO_NAMES, NO_NAMES_KNOWN, NO_SETTLING],
    },
    OPERATOR,
];

/// The command line.
pub(crate) const OPERATOR: User = User {
    name: "OperatorPolicy",
    wired: "infra/local/src/cli/deployment.rs",
    uses: &[
        SECRETS,
        of("", &["stack.rs Stack::named"]),
        of("checkpoints", &[GET, PUT, DELETE]),
        of("links", &[LINKS_GET]),
        of("outbox", &[SEND]),
        of_blobs("outbox", MESSAGES, &[BLOB_PUT]),
        of_blobs("parking", PARKED, &[BLOB_LIST, BLOB_GET, BLOB_MEASURE]),
        of("states", &[GET, PUT]),
        of("breakers", &[LIST]),
        of(
            "ledger",
            &[
                "state/ledger.rs DynamoLedger::books",
                "state/ledger.rs DynamoLedger::books_of",
                "state/ledger.rs DynamoLedger::in_flight",
                "state/ledger.rs DynamoLedger::runs",
            ],
        ),
        of_blobs(
            "failures",
            RECORDS,
            &[
                "failures/mod.rs DynamoFailures::count",
                "failures/mod.rs DynamoFailures::find",
                "failures/mod.rs DynamoFailures::get",
                "failures/mod.rs DynamoFailures::groups",
                "failures/mod.rs DynamoFailures::put",
                "failures/mod.rs DynamoFailures::query",
            ],
        ),
        of_blobs(
            "failures",
            AUDIT,
            &[
                "failures/mod.rs DynamoFailures::audit",
                "failures/mod.rs DynamoFailures::audit_log",
            ],
        ),
    ],
    never: &[
        NO_NAMES,
        NO_NAMES_KNOWN,
        NO_SETTLING,
        Never {
            call: "state/ledger.rs StateTable::open",
            why: "it sends jobs, and no packs",
        },
    ],
};

/// Callers of AWS in the adapters that neither a function nor the command line uses.
pub(crate) const NOBODY: [Never; 2] = [
    Never {
        call: "queue.rs Queues::receive",
        why: "AWS receives for the functions; the contract suite of queues does it here",
    },
    Never {
        call: "queue.rs Queues::delete_batch",
        why: "the same",
    },
];
