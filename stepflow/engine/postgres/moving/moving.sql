-- Made by `stepflow migrate` beside schema.sql: from where this database is filled, and how far.
create table stepflow.migration (
  one boolean primary key default true check (one),
  id text not null,
  source text not null,
  terms text not null,
  made_absurd boolean not null,
  copied bigint not null default 0,
  begun_at timestamptz not null default clock_timestamp(),
  switched_at timestamptz
);
