-- The tables of the shop. Deployments run this file once, before web processes and workers start.

-- An order begins as OUTCOME_UNKNOWN. The last three states are final.
create table shop_order (
    reference text primary key,
    state text not null default 'OUTCOME_UNKNOWN'
        check (state in ('OUTCOME_UNKNOWN', 'READY_TO_SIGN', 'NOT_CREATED', 'SIGNED', 'NOT_SIGNED')),
    job_id bigint,
    signer_url text,
    placed_at timestamptz not null default now()
);

-- `kind` is 'pades' or 'xades'. The PAdES belongs to all signers, so its `signer` is empty.
create table signed_document (
    reference text references shop_order,
    kind text,
    signer text,
    content bytea not null,
    primary key (reference, kind, signer)
);

-- The status changes that were stored. A change is redelivered with the same key.
create table handled_change (
    deduplication_key text primary key,
    reference text not null references shop_order,
    handled_at timestamptz not null default now()
);

-- Changes that no delivery could store, for a person: see `dead_letter` in worker.py. The URLs are for
-- `get_pades` and `get_xades`, as long as the service keeps the documents.
create table dead_letter (
    deduplication_key text primary key,
    job_id bigint not null,
    reference text,
    status text not null,
    pades_url text,
    xades_urls text[] not null,
    received_at timestamptz not null default now()
);
