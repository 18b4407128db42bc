-- What operators ask of all processes together. Loaded after schema.sql, and of its format.
--
--   processes  one row a process that is up: who it is, when it was heard of, its figures
--   audit      who did what, newest last
--   retention  how long a workflow's finished runs are kept, where it says so
--   api_keys   keys of the HTTP API that were made, by their hash
--   sessions   who is logged in to the dashboard, by the hash of the session's id

create table stepflow.processes (
  process text primary key,
  role text not null,
  version text not null,
  host text not null,
  pid integer not null,
  started_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp(),
  figures bytea not null
);

-- A process is up. The clock is the database's, so theirs need not agree; who has not been heard of
-- for an hour is forgotten.
create function stepflow.beat(
  p_process text, p_role text, p_version text, p_host text, p_pid integer, p_figures bytea
) returns void language sql as $$
  delete from stepflow.processes where seen_at < clock_timestamp() - interval '1 hour';
  insert into stepflow.processes (process, role, version, host, pid, figures)
  values (p_process, p_role, p_version, p_host, p_pid, p_figures)
  on conflict (process) do update
     set seen_at = clock_timestamp(), figures = excluded.figures;
$$;

-- One act on many runs, each for itself: a letter, another life, or nothing more of it. What one is
-- refused with (`refused`: SF404, SF409) is said in its row and keeps no other from it.
create function stepflow.act_on(p_kind text, p_runs text[], p_body bytea)
  returns table (run text, letter bigint, refused text, why text) language plpgsql as $$
begin
  -- In the order in which a group commit locks them.
  for run in select r from unnest(p_runs) r order by r loop
    letter := null;
    refused := '';
    why := '';
    begin
      if p_kind = 'purge' then
        perform stepflow.purge(run);
      elsif p_kind = 'retry' then
        perform stepflow.revive(run, p_body);
      elsif not stepflow.put(run, p_kind, p_body) then
        select status into why from stepflow.runs where run_id = run;
        refused := case when found then 'SF409' else 'SF404' end;
      end if;
      if refused = '' then
        select max(n) into letter from stepflow.inbox where run_id = run and kind = p_kind;
      end if;
    exception when sqlstate 'SF404' or sqlstate 'SF409' then
      refused := sqlstate;
      why := sqlerrm;
    end;
    return next;
  end loop;
end;
$$;

-- ---------------------------------------------------------------- who did what

-- Acts of operators on all runs, keys and schedules, written with what they are about: a bounded
-- table, which outlives the runs.
create table stepflow.audit (
  n bigint generated always as identity primary key,
  run_id text not null,
  entry bytea not null
);

create index audit_run on stepflow.audit (run_id, n);

-- Forget the oldest acts beyond so many and so many bytes.
create function stepflow.trim_audit(p_most integer, p_bytes bigint) returns void language sql as $$
  delete from stepflow.audit where n <= coalesce((
    select max(n) from (
      select n, row_number() over newest as place, sum(length(entry)) over newest as bytes
        from stepflow.audit window newest as (order by n desc)
    ) a where a.place > p_most or a.bytes > p_bytes), 0);
$$;

-- ---------------------------------------------------------------- API keys

-- Keys that were made over HTTP or by `stepflow keys --database`: of each its SHA-256 alone. Whoever
-- changes one has the lock of the version, and raises it.
create table stepflow.api_keys (
  id text primary key,
  row jsonb not null
);

create table stepflow.api_keys_version (
  one boolean primary key default true check (one),
  version bigint not null
);

insert into stepflow.api_keys_version (version) values (1);

-- Logins, likewise: neither an id nor what was logged in with is here.
create table stepflow.sessions (
  id text primary key,
  row jsonb not null
);

create table stepflow.sessions_version (
  one boolean primary key default true check (one),
  version bigint not null
);

insert into stepflow.sessions_version (version) values (1);

-- ---------------------------------------------------------------- how long runs are kept

-- A workflow's own limits, as the code that was started last has them, for whoever sweeps: that may
-- be a process which does not know the workflow. Null is as its settings say.
create table stepflow.retention (
  workflow text primary key,
  names text[] not null,
  completed_ms bigint,
  failed_ms bigint,
  runs_max bigint,
  bytes_max bigint
);
