-- Schedules. A row says up to which time everything is decided. Whoever fires holds its lock from
-- the look at it to the commit of the runs that it starts: so no time gets two runs, and one whose
-- process died in between is as undecided as before.
--
--   schedules   one row a schedule, of all code that was ever here; `spec` is empty when it is gone
--
-- The runs of a schedule that have not ended are those with its id in `runs.schedule`.

create table stepflow.schedules (
  id text primary key,
  workflow text not null,
  spec text not null,
  last_ms bigint not null,
  paused boolean not null default false,
  fired bigint not null default 0,
  skipped bigint not null default 0,
  run_id text not null default '',
  at_ms bigint not null default 0
);

alter table stepflow.runs add column schedule text not null default '';

create index runs_schedule on stepflow.runs (schedule, seq)
  where schedule <> '' and status in ('pending', 'running');

-- The time of what all processes share: theirs may differ.
create function stepflow.now_ms() returns bigint language sql volatile as $$
  select floor(extract(epoch from absurd.current_time()) * 1000)::bigint
$$;

-- Code was started: these are its schedules, and its workflows have no others. Whoever says so last
-- is right. What has changed begins now: nothing that passed before is due.
create function stepflow.set_schedules(
  p_ids text[], p_workflows text[], p_specs text[], p_known text[]
) returns void language plpgsql as $$
declare
  v_id text;
  v_changed boolean := false;
begin
  for v_id in
    select id from stepflow.schedules
     where id = any(p_ids) or workflow = any(p_known) order by id for update
  loop
    update stepflow.schedules
       set spec = '', last_ms = greatest(last_ms, stepflow.now_ms())
     where id = v_id and spec <> '' and id <> all(p_ids);
    v_changed := v_changed or found;
  end loop;
  insert into stepflow.schedules as s (id, workflow, spec, last_ms)
  select id, workflow, spec, stepflow.now_ms()
    from unnest(p_ids, p_workflows, p_specs) as p(id, workflow, spec) order by id
  on conflict (id) do update
     set workflow = excluded.workflow, spec = excluded.spec,
         last_ms = case when s.spec = excluded.spec then s.last_ms
                        else greatest(s.last_ms, excluded.last_ms) end
   where (s.workflow, s.spec) <> (excluded.workflow, excluded.spec);
  if v_changed or found then
    perform pg_notify('stepflow_timed', '');
  end if;
end;
$$;
