-- Stepflow on PostgreSQL, format 1. Absurd's own schema lies beside it and owns who runs what:
-- a task is one life of a run, a claim is the right to write it.
--
--   runs      one row a run: what lists show, who may write it (`holder`), what wakes it (`wake`)
--   records   its history, the same bytes as in the journal of the local engine; this is the truth
--   payloads  events that records name by their LSN
--   waits     who waits for what; whoever deletes a row has decided the wait
--   declared  which events a run keeps
--   inbox     what others want of a run, until its worker has recorded what came of it
--   keys      idempotency keys
--   sent      what workflows have sent: once, whoever asks again
--   passing   emits that are kept nowhere, for some seconds: for streams on other processes
--   workers   the last group that each worker has written: a group is written once
--   present   who takes work: of these one is told of a run that waits for a worker

create schema stepflow;

create table stepflow.meta (
  one boolean primary key default true check (one),
  version integer not null,
  store text not null
);

create table stepflow.runs (
  run_id text primary key,
  seq bigint generated always as identity unique,
  workflow text not null,
  tags text[] not null,
  status text not null,
  created_ms bigint not null,
  updated_ms bigint not null,
  -- When it has ended, and how much its records are then: with its status, and null while it lives.
  ended_ms bigint,
  bytes bigint,
  rs integer not null,
  lsn bigint not null,
  forgotten integer not null default 0,
  kept integer not null default 0,
  kept_bytes bigint not null default 0,
  task_id uuid,
  holder uuid,
  worker text,
  wake text,
  condition text not null default '',
  reason text not null default '',
  claimed_rs integer not null default 0,
  suspicions integer not null default 0
) with (fillfactor = 70);

create index runs_workflow on stepflow.runs (workflow, seq) include (status);
create index runs_status on stepflow.runs (status, seq);
create index runs_ended on stepflow.runs (ended_ms, seq) where ended_ms is not null;

create table stepflow.records (
  run_id text not null,
  rs integer not null,
  lsn bigint not null,
  xid bigint not null default (pg_current_xact_id()::text::bigint),
  n bigint generated always as identity,
  crc bigint not null,
  data bytea not null,
  primary key (run_id, rs)
);

create index records_order on stepflow.records (xid, n);

create table stepflow.payloads (
  run_id text not null,
  lsn bigint not null,
  body bytea not null,
  primary key (run_id, lsn)
);

create table stepflow.waits (
  run_id text not null,
  key text not null,
  event text not null,
  -- What it takes, as typenames.py writes it. Empty: anything. Null: nobody has said so far.
  type text,
  n bigint generated always as identity,
  primary key (run_id, key)
);

create index waits_event on stepflow.waits (event, n);
create index waits_untold on stepflow.waits (run_id) where type is null;

create table stepflow.declared (
  event text not null,
  run_id text not null,
  primary key (event, run_id)
);

create index declared_run on stepflow.declared (run_id);

create table stepflow.inbox (
  run_id text not null,
  n bigint generated always as identity,
  kind text not null,
  body bytea not null,
  primary key (run_id, n)
);

create table stepflow.keys (
  workflow text not null,
  principal text not null,
  key text not null,
  run_id text not null,
  expires_ms bigint not null,
  primary key (workflow, principal, key)
);

create index keys_run on stepflow.keys (run_id);

create table stepflow.sent (
  run_id text not null,
  token text not null,
  count integer not null,
  primary key (run_id, token)
);

create table stepflow.workers (
  worker text primary key,
  batch bigint not null default 0,
  seen_at timestamptz not null default clock_timestamp()
);

-- Of one numbering with records, so that both lie in one order.
create unlogged table stepflow.passing (
  xid bigint not null default (pg_current_xact_id()::text::bigint),
  n bigint not null default nextval('stepflow.records_n_seq'),
  run_id text not null,
  rs integer not null,
  at_ms bigint not null,
  data bytea not null,
  primary key (xid, n)
);

create index passing_run on stepflow.passing (run_id, n);

-- Of no worth after a crash: whoever is there says so again.
create unlogged table stepflow.present (
  worker text primary key,
  has_room boolean not null,
  until timestamptz not null
);

create sequence stepflow.wakes;

-- ---------------------------------------------------------------- telling

-- Tell somebody who takes work that so many runs wait: one worker for a few, more for many, each of
-- its part. Nobody else is woken. A worker that dies before it claims leaves them to whoever looks
-- next by himself.
create function stepflow.announce(p_runs integer) returns void language sql as $$
  with taking as (
    select worker from stepflow.present
     where has_room and until > clock_timestamp()
     order by random() limit greatest(p_runs / 8, 1)
  )
  select pg_notify('stepflow@' || worker, ceil(p_runs::numeric / (select count(*) from taking))::text)
    from taking;
$$;

-- A worker is there for so long; null: it is no more.
create function stepflow.appear(p_worker text, p_has_room boolean, p_seconds float8) returns void
  language plpgsql as $$
begin
  if p_seconds is null then
    delete from stepflow.present where worker = p_worker;
    return;
  end if;
  insert into stepflow.present as p (worker, has_room, until)
  values (p_worker, p_has_room, clock_timestamp() + make_interval(secs => p_seconds))
  on conflict (worker) do update set has_room = excluded.has_room, until = excluded.until;
end;
$$;

-- ---------------------------------------------------------------- starting

-- A run begins: its row, its first record, its task. A taken id is a unique violation. Somebody has
-- to be told of it, once for all that begin in a transaction. One that is held gets its task when it
-- is let in, or written to (gate.sql).
create function stepflow.start(
  p_run text, p_workflow text, p_tags text[], p_status text, p_ms bigint,
  p_lsn bigint, p_crc bigint, p_data bytea, p_events text[], p_held boolean default false
) returns void language plpgsql as $$
begin
  insert into stepflow.runs
    (run_id, workflow, tags, status, created_ms, updated_ms, rs, lsn)
  values (p_run, p_workflow, p_tags, p_status, p_ms, p_ms, 1, p_lsn);
  insert into stepflow.records (run_id, rs, lsn, crc, data)
  values (p_run, 1, p_lsn, p_crc, p_data);
  insert into stepflow.declared (event, run_id)
  select distinct event, p_run from unnest(p_events) event;
  if not p_held then
    perform stepflow.spawn(p_run);
  end if;
end;
$$;

-- The run gets the task of its first life, unless it has it.
create function stepflow.spawn(p_run text) returns void language plpgsql as $$
begin
  update stepflow.runs r set task_id = (
    select t.task_id from absurd.spawn_task(
      'stepflow', r.workflow, jsonb_build_object('run', r.run_id),
      -- An id may be purged and taken again, its task is still there.
      jsonb_build_object('idempotency_key', r.run_id || '@' || r.seq)) t)
   where r.run_id = p_run and r.task_id is null;
end;
$$;

-- ---------------------------------------------------------------- claims

-- Claim tasks. What has expired can be claimed by the call after the one that has noticed it.
create function stepflow.claim_tasks(p_worker text, p_timeout integer, p_count integer)
  returns table (run_id uuid, task_id uuid, params jsonb) language plpgsql as $$
declare
  v_now timestamptz := absurd.current_time();
  v_expired boolean;
  v_count integer;
begin
  v_expired := exists (
    select 1 from absurd.r_stepflow r
     where r.state = 'running' and r.claim_expires_at <= v_now);
  return query select c.run_id, c.task_id, c.params
    from absurd.claim_task('stepflow', p_worker, p_timeout, p_count) c;
  get diagnostics v_count = row_count;
  if v_expired and v_count < p_count then
    return query select c.run_id, c.task_id, c.params
      from absurd.claim_task('stepflow', p_worker, p_timeout, p_count - v_count) c;
  end if;
end;
$$;

-- Take runs that nobody runs, or whose worker has not been heard of: their holder changes, and with
-- it who may write them. Three deaths in a row without a new record are one too many. A short run
-- comes with its records, and any with its letters: nobody but the worker writes the ones now, and
-- who writes it a letter from now on tells the worker.
create function stepflow.claim(p_worker text, p_timeout integer, p_count integer)
  returns table (
    run_id text, holder uuid, suspicions integer, condition text, reason text,
    rs integer[], lsn bigint[], crc bigint[], data bytea[],
    n bigint[], kind text[], body bytea[]
  )
  language plpgsql as $$
declare
  v_claim record;
  v_run record;
begin
  for v_claim in
    select c.run_id, c.task_id, c.params->>'run' as run
      from stepflow.claim_tasks(p_worker, p_timeout, p_count) c
  loop
    update stepflow.runs r
       set holder = v_claim.run_id,
           worker = p_worker,
           wake = null,
           suspicions = case
             when r.holder is not null and r.claimed_rs = r.rs then r.suspicions + 1 else 0 end,
           claimed_rs = r.rs
     where r.run_id = v_claim.run and r.task_id = v_claim.task_id
    returning r.run_id, r.suspicions, r.condition, r.reason, r.rs, r.forgotten into v_run;
    if not found then
      -- Purged, or a life that is over.
      perform absurd.complete_run('stepflow', v_claim.run_id, null);
      continue;
    end if;
    run_id := v_run.run_id;
    holder := v_claim.run_id;
    suspicions := v_run.suspicions;
    condition := v_run.condition;
    reason := v_run.reason;
    rs := null;
    if v_run.rs - v_run.forgotten <= 32
       and not exists (select 1 from stepflow.payloads p where p.run_id = v_run.run_id) then
      select array_agg(e.rs order by e.rs), array_agg(e.lsn order by e.rs),
             array_agg(e.crc order by e.rs), array_agg(e.data order by e.rs)
        into rs, lsn, crc, data
        from stepflow.records e
       where e.run_id = v_run.run_id and e.rs > v_run.forgotten;
    end if;
    select array_agg(i.n order by i.n), array_agg(i.kind order by i.n),
           array_agg(i.body order by i.n)
      into n, kind, body
      from stepflow.inbox i where i.run_id = v_run.run_id;
    return next;
  end loop;
end;
$$;

-- Extend the claims that still are; return the runs that somebody else has now. A run that ended a
-- moment ago is none of them: its worker hears of that by itself.
create function stepflow.heartbeat(
  p_worker text, p_runs text[], p_holders uuid[], p_timeout integer
) returns table (lost text) language plpgsql as $$
begin
  update stepflow.workers set seen_at = clock_timestamp() where worker = p_worker;
  for i in 1 .. coalesce(array_length(p_runs, 1), 0) loop
    begin
      perform absurd.extend_claim('stepflow', p_holders[i], p_timeout);
    exception when others then
      perform 1 from stepflow.runs r
        where r.run_id = p_runs[i] and (r.status not in ('pending', 'running')
           or (r.holder = p_holders[i] and exists (
             select 1 from absurd.r_stepflow a
              where a.run_id = p_holders[i] and a.state = 'running')));
      if not found then
        lost := p_runs[i];
        return next;
      end if;
    end;
  end loop;
end;
$$;

-- Give claims back: anybody may take these runs now.
create function stepflow.release(p_runs text[], p_holders uuid[]) returns void
  language plpgsql as $$
declare
  v_row record;
  v_count integer := 0;
begin
  for v_row in
    select r.run_id, r.holder from stepflow.runs r
      join unnest(p_runs, p_holders) as p(run_id, holder) using (run_id, holder)
     order by r.run_id for update of r
  loop
    begin
      perform absurd.schedule_run('stepflow', v_row.holder, absurd.current_time());
    exception when raise_exception then
      continue;
    end;
    update stepflow.runs set holder = null, suspicions = 0 where run_id = v_row.run_id;
    v_count := v_count + 1;
  end loop;
  if v_count > 0 then
    perform stepflow.announce(v_count);
  end if;
end;
$$;

-- Put a run to sleep until somebody writes to it, or for so many seconds: say whether it sleeps.
create function stepflow.suspend(p_run text, p_holder uuid, p_seconds integer) returns boolean
  language plpgsql as $$
declare
  v_task uuid;
  v_wake text;
begin
  select task_id into v_task from stepflow.runs
   where run_id = p_run and holder = p_holder for update;
  if not found or exists (select 1 from stepflow.inbox where run_id = p_run) then
    return false;
  end if;
  v_wake := p_run || '#' || nextval('stepflow.wakes');
  perform absurd.await_event('stepflow', v_task, p_holder, '$' || v_wake, v_wake, p_seconds);
  update stepflow.runs set holder = null, wake = v_wake, suspicions = 0 where run_id = p_run;
  return true;
end;
$$;

-- ---------------------------------------------------------------- writing

-- First in a group's transaction. Raises SF001 with the runs whose claim was lost, SF002 when the
-- group was written already and only its answer was lost.
create function stepflow.guard(
  p_worker text, p_batch bigint, p_runs text[], p_holders uuid[], p_ending uuid[]
) returns void language plpgsql as $$
declare
  v_batch bigint;
  v_lost text[];
begin
  insert into stepflow.workers as w (worker, batch) values (p_worker, p_batch)
  on conflict (worker) do update set batch = excluded.batch where w.batch < excluded.batch
  returning batch into v_batch;
  if v_batch is null then
    raise exception sqlstate 'SF002' using message = 'written already';
  end if;
  -- In the order in which a claim locks them.
  perform 1 from absurd.r_stepflow where run_id = any(p_ending) order by run_id for update;
  with mine as (
    select r.run_id from stepflow.runs r
      join unnest(p_runs, p_holders) as p(run_id, holder) using (run_id, holder)
     order by r.run_id for no key update of r
  )
  select array_agg(p.run_id) into v_lost
    from unnest(p_runs, p_holders) as p(run_id, holder)
   where p.run_id not in (select run_id from mine)
      or not exists (
        select 1 from absurd.r_stepflow a where a.run_id = p.holder and a.state = 'running');
  if v_lost is not null then
    raise exception sqlstate 'SF001' using message = array_to_string(v_lost, ',');
  end if;
end;
$$;

-- Waits have timed out. Raises SF003 with the runs for which somebody was faster.
create function stepflow.time_out(p_runs text[], p_keys text[]) returns void
  language plpgsql as $$
declare
  v_late text[];
begin
  with gone as (
    delete from stepflow.waits w using unnest(p_runs, p_keys) as p(run_id, key)
     where w.run_id = p.run_id and w.key = p.key returning w.run_id, w.key
  )
  select array_agg(distinct p.run_id) into v_late
    from unnest(p_runs, p_keys) as p(run_id, key)
   where (p.run_id, p.key) not in (select gone.run_id, gone.key from gone);
  if v_late is not null then
    raise exception sqlstate 'SF003' using message = array_to_string(v_late, ',');
  end if;
end;
$$;

-- Runs have ended: nobody waits for anything there any more, and their tasks are over.
create function stepflow.finish(p_runs text[], p_results text[]) returns void
  language plpgsql as $$
declare
  v_count integer;
  v_done integer;
begin
  delete from stepflow.waits where run_id = any(p_runs);
  delete from stepflow.declared where run_id = any(p_runs);
  delete from stepflow.sent where run_id = any(p_runs);
  delete from stepflow.inbox where run_id = any(p_runs);
  -- What absurd.complete_run does to one, for all of them.
  with ending as (
    select r.holder, p.result::jsonb as result from stepflow.runs r
      join unnest(p_runs, p_results) as p(run_id, result) using (run_id)
  ), done as (
    update absurd.r_stepflow a
       set state = 'completed', completed_at = absurd.current_time(), result = e.result
      from ending e where a.run_id = e.holder and a.state = 'running'
    returning a.run_id, a.task_id, a.result
  ), tasks as (
    update absurd.t_stepflow t
       set state = 'completed', completed_payload = d.result, last_attempt_run = d.run_id
      from done d where t.task_id = d.task_id
  ), waits as (
    delete from absurd.w_stepflow w using done d where w.run_id = d.run_id
  )
  select (select count(*) from ending), (select count(*) from done) into v_count, v_done;
  if v_done <> v_count then
    raise exception sqlstate 'SF001' using message = array_to_string(p_runs, ',');
  end if;
  update stepflow.runs
     set holder = null, worker = null, task_id = null, kept = 0, kept_bytes = 0,
         condition = '', reason = '', suspicions = 0
   where run_id = any(p_runs);
  if exists (select 1 from stepflow.gated where run_id = any(p_runs)) then
    perform stepflow.leave(p_runs);
  end if;
end;
$$;

-- Write to a run, whoever has it; wake it where it sleeps. False: there is no such live run.
create function stepflow.put(p_run text, p_kind text, p_body bytea) returns boolean
  language plpgsql as $$
declare
  v_wake text;
  v_status text;
  v_worker text;
  v_task uuid;
begin
  -- A run is put to sleep under a lock that this waits for, and no write of a run is.
  select wake, status, worker, task_id into v_wake, v_status, v_worker, v_task
    from stepflow.runs where run_id = p_run for key share;
  if not found or v_status not in ('pending', 'running') then
    return false;
  end if;
  insert into stepflow.inbox (run_id, kind, body) values (p_run, p_kind, p_body);
  if v_task is null then
    perform stepflow.spawn(p_run);
    perform stepflow.announce(1);
  elsif v_wake is null then
    -- Where nobody has it, it is read by whoever will.
    perform pg_notify('stepflow@' || v_worker, p_run) where v_worker is not null;
  else
    perform absurd.emit_event('stepflow', v_wake, null);
    perform stepflow.announce(1);
  end if;
  return true;
end;
$$;

-- Deliver an event: every wait for it is decided here, those who declared it keep it. A run is
-- passed over, its waits as they were, where each of them has a type that the caller knows to refuse
-- the payload. Says how many runs it reached, and of those passed over the last one's first type. Of
-- types that the caller has not looked at it says which, and nothing is done: he looks and asks
-- again. Raises SF429 with a run that keeps too much already.
create function stepflow.deliver(
  p_event text, p_run text, p_sender text, p_body bytea, p_kept_max integer,
  p_kept_bytes_max bigint, p_taking text[], p_refusing text[],
  out reached integer, out refused text, out unknown text[]
) language plpgsql as $$
declare
  v_waits stepflow.waits[];
  v_passed text[];
  v_id text;
  v_keeps boolean;
  v_full boolean;
begin
  reached := 0;
  -- From here on nobody else decides them. A wait that was decided meanwhile is none of them.
  select array_agg(w order by w.n) into v_waits from (
    select * from stepflow.waits
     where event = p_event and (p_run = '' or run_id = p_run) and run_id <> p_sender
     order by n for update
  ) w;
  select array_agg(distinct w.type) into unknown from unnest(v_waits) w
   where w.type <> '' and w.type <> all(p_taking) and w.type <> all(p_refusing);
  if unknown is not null then
    return;
  end if;
  if p_refusing <> '{}' then
    select array_agg(run_id order by first), (array_agg(type order by first desc))[1]
      into v_passed, refused
      from (
        select w.run_id, min(w.n) as first, (array_agg(w.type order by w.n))[1] as type
          from unnest(v_waits) w group by w.run_id
        having bool_and(coalesce(w.type = any(p_refusing), false))
      ) passed;
  end if;
  v_passed := coalesce(v_passed, '{}');
  delete from stepflow.waits w using unnest(v_waits) as mine
   where w.run_id = mine.run_id and w.key = mine.key
     and w.run_id not in (select unnest(v_passed));
  for v_id, v_keeps in
    with waiting as (select distinct w.run_id from unnest(v_waits) w),
    takers as (
      select run_id, false as keeps from waiting
       where run_id not in (select unnest(v_passed))
      union all
      select d.run_id, true from stepflow.declared d
       where p_run = '' and d.event = p_event and d.run_id <> p_sender
         and d.run_id not in (select run_id from waiting)
      union all
      select r.run_id, true from stepflow.runs r
       where r.run_id = p_run and r.status in ('pending', 'running')
         and r.run_id not in (select run_id from waiting)
    )
    select run_id, keeps from takers order by run_id
  loop
    if v_keeps then
      select r.kept + count(i.n) >= p_kept_max
          or r.kept_bytes + coalesce(sum(length(i.body)), 0) + length(p_body) > p_kept_bytes_max
        into v_full
        from stepflow.runs r
        left join stepflow.inbox i on i.run_id = r.run_id and i.kind = 'event'
       where r.run_id = v_id group by r.run_id;
      if v_full then
        raise exception sqlstate 'SF429' using message = v_id;
      end if;
    end if;
    if stepflow.put(v_id, 'event', p_body) then
      reached := reached + 1;
    end if;
  end loop;
end;
$$;

-- What a workflow sends is sent once: whoever asks again hears how many it reached.
create function stepflow.send(
  p_run text, p_token text, p_event text, p_body bytea, p_kept_max integer,
  p_kept_bytes_max bigint, p_taking text[], p_refusing text[],
  out reached integer, out refused text, out unknown text[]
) language plpgsql as $$
begin
  select count into reached from stepflow.sent where run_id = p_run and token = p_token;
  if found then
    return;
  end if;
  insert into stepflow.sent (run_id, token, count) values (p_run, p_token, 0);
  select d.reached, d.refused, d.unknown into reached, refused, unknown
    from stepflow.deliver(
      p_event, '', p_run, p_body, p_kept_max, p_kept_bytes_max, p_taking, p_refusing) d;
  if unknown is null then
    update stepflow.sent set count = reached where run_id = p_run and token = p_token;
  else
    delete from stepflow.sent where run_id = p_run and token = p_token;
  end if;
end;
$$;

-- ---------------------------------------------------------------- what operators do

-- A run that failed or was cancelled gets another life. Raises SF409 with its status.
create function stepflow.revive(p_run text, p_body bytea) returns void language plpgsql as $$
declare
  v_run stepflow.runs;
  v_task uuid;
begin
  select * into v_run from stepflow.runs where run_id = p_run for update;
  if not found then
    raise exception sqlstate 'SF404' using message = p_run;
  end if;
  if v_run.status not in ('failed', 'cancelled') or v_run.task_id is not null then
    raise exception sqlstate 'SF409'
      using message = case when v_run.task_id is null then v_run.status else 'being retried' end;
  end if;
  select task_id into v_task from absurd.spawn_task(
    'stepflow', v_run.workflow, jsonb_build_object('run', p_run),
    jsonb_build_object('idempotency_key', p_run || '@' || v_run.seq || '~' || v_run.rs)
  );
  update stepflow.runs set task_id = v_task where run_id = p_run;
  insert into stepflow.inbox (run_id, kind, body) values (p_run, 'retry', p_body);
  perform stepflow.announce(1);
end;
$$;

-- Forget a run that has ended. Raises SF404 and SF409.
create function stepflow.purge(p_run text) returns void language plpgsql as $$
declare
  v_run stepflow.runs;
begin
  select * into v_run from stepflow.runs where run_id = p_run for update;
  if not found then
    raise exception sqlstate 'SF404' using message = p_run;
  end if;
  if v_run.status in ('pending', 'running') or v_run.task_id is not null then
    raise exception sqlstate 'SF409' using message = v_run.status;
  end if;
  delete from stepflow.records where run_id = p_run;
  delete from stepflow.payloads where run_id = p_run;
  delete from stepflow.keys where run_id = p_run;
  delete from stepflow.inbox where run_id = p_run;
  delete from stepflow.runs where run_id = p_run;
  perform pg_notify('stepflow_runs', p_run || '!');
end;
$$;
