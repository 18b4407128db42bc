-- What operators ask of all processes together. Loaded after schema.sql, and of its format.
--
--   processes  one row a process that is up: who it is, when it was heard of, its figures

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
