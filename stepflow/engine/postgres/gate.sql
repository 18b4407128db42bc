-- Who may begin: concurrency and rate limits, and the queue of the runs that wait for them. Loaded
-- after schema.sql, and of its format. What the words mean is in runtime/admission.py: a bucket is one
-- limit and one value of its key, a lane is a row of runs that need the very same buckets.
--
--   limits   how many, as the code says that was started last
--   gates    each workflow that ever had a limit, with the limits that its runs are counted by
--   buckets  how many slots are taken, and how many starts were counted
--   starts   when they were, as long as a rate limit counts them
--   lanes    rows of runs; `behind` is the bucket that keeps its first from beginning
--   gated    runs: 'waits'; 'let-in', their slots are taken and their worker was told; 'begun'
--   seats    slots: by the run that took one, the runs that are on it, awaited children too
--
-- All of it but the step from 'let-in' to 'begun' is done under one lock. A transaction takes it after
-- whatever it locks of its own runs, waits among it, and before it writes to others': so nobody
-- waits for it who holds what its holder wants. Under it no limit is ever exceeded, and what a
-- transaction frees, it gives to the next in line. A slot is a run's, never a worker's: it is free
-- when the end of the run is committed, however often its workers have died.
--
-- A run that waits has no task. Who is let in gets one, or a letter where it has (put).

create table stepflow.limits (
  kind text not null,
  id text not null,
  count integer not null,
  per_ms bigint not null,
  path text not null,
  primary key (kind, id)
);

create table stepflow.gates (
  workflow text primary key,
  spec text not null
);

create table stepflow.buckets (
  bucket bigint generated always as identity primary key,
  kind text not null,
  id text not null,
  key text not null,
  held integer not null default 0,
  started bigint not null default 0,
  due_ms bigint,
  unique (kind, id, key)
) with (fillfactor = 70);

create index buckets_due on stepflow.buckets (due_ms) where due_ms is not null;

create table stepflow.starts (
  bucket bigint not null,
  n bigint not null,
  at_ms bigint not null,
  primary key (bucket, n)
);

create table stepflow.lanes (
  lane bigint generated always as identity primary key,
  workflow text not null,
  buckets bigint[] not null,
  length integer not null default 0,
  turn bigint not null,
  behind bigint,
  unique (workflow, buckets)
) with (fillfactor = 70);

create index lanes_behind on stepflow.lanes (behind, turn) where behind is not null;
create index lanes_buckets on stepflow.lanes using gin (buckets);

create table stepflow.gated (
  run_id text primary key,
  state text not null,
  lane bigint,
  priority integer not null default 0,
  eligible_ms bigint not null default 0,
  seq bigint not null default 0,
  lent bigint[] not null default '{}',
  takers text[] not null default '{}'
);

create index gated_order on stepflow.gated (lane, priority desc, eligible_ms, seq)
  where state = 'waits';

create table stepflow.seats (
  bucket bigint not null,
  taker text not null,
  run_id text not null,
  primary key (bucket, taker, run_id)
);

create index seats_run on stepflow.seats (run_id);

create sequence stepflow.turns;

create function stepflow.lock_gate() returns void language sql as $$
  select pg_advisory_xact_lock(6013554829417574757)
$$;

-- ---------------------------------------------------------------- buckets

-- When one more may begin by a rate limit; null: at once, as far as it goes.
create function stepflow.free_at(p_bucket bigint) returns bigint language sql volatile as $$
  select s.at_ms + l.per_ms
    from stepflow.buckets b
    join stepflow.limits l using (kind, id)
    join stepflow.starts s on s.bucket = b.bucket and s.n = b.started - l.count + 1
   where b.bucket = p_bucket and b.kind = 'rate'
$$;

create function stepflow.has_room(p_bucket bigint, p_now bigint) returns boolean
  language sql volatile as $$
  select case b.kind
           when 'rate' then coalesce(stepflow.free_at(p_bucket) <= p_now, true)
           else b.held < l.count end
    from stepflow.buckets b join stepflow.limits l using (kind, id) where b.bucket = p_bucket
$$;

-- Return the buckets of what a run asks for, in its order; make those that are not there.
create function stepflow.buckets_of(p_ask jsonb) returns bigint[] language plpgsql as $$
declare
  v_limit jsonb;
  v_bucket bigint;
  v_found bigint[] := '{}';
begin
  for v_limit in select * from jsonb_array_elements(p_ask->'limits') loop
    insert into stepflow.limits (kind, id, count, per_ms, path)
    values (v_limit->>'kind', v_limit->>'id', (v_limit->>'count')::integer,
            (v_limit->>'per')::bigint, v_limit->>'path')
    on conflict do nothing;
    select bucket into v_bucket from stepflow.buckets
     where kind = v_limit->>'kind' and id = v_limit->>'id' and key = v_limit->>'key';
    if not found then
      insert into stepflow.buckets (kind, id, key)
      values (v_limit->>'kind', v_limit->>'id', v_limit->>'key') returning bucket into v_bucket;
    end if;
    v_found := v_found || v_bucket;
  end loop;
  return v_found;
end;
$$;

-- The slots of a run and of those that await it, the nearest first.
create function stepflow.held_above(p_parent text)
  returns table (bucket bigint, taker text, depth integer) language plpgsql as $$
declare
  v_run text := p_parent;
  v_depth integer := 0;
  v_start json;
begin
  while v_run <> '' and v_depth < 1000 loop
    v_depth := v_depth + 1;
    return query select s.bucket, s.taker, v_depth from stepflow.seats s where s.run_id = v_run;
    select convert_from(data, 'UTF8')::json into v_start
      from stepflow.records where run_id = v_run order by rs limit 1;
    if v_start->>'t' = 'run.restarted' then
      v_start := v_start->'started';
    end if;
    v_run := coalesce(case when v_start->>'parent_key' <> '' then v_start->>'parent' end, '');
  end loop;
end;
$$;

-- The run takes its slots and, where it begins, its start counts.
create function stepflow.sit(
  p_run text, p_buckets bigint[], p_lent bigint[], p_takers text[], p_now bigint, p_begins boolean
) returns void language plpgsql as $$
declare
  v_row record;
begin
  for v_row in
    select b.bucket, b.kind, b.started, p_run as taker, l.per_ms
      from stepflow.buckets b join stepflow.limits l using (kind, id)
     where b.bucket = any(p_buckets)
    union all
    select p.bucket, 'concurrency', 0, p.taker, 0 from unnest(p_lent, p_takers) as p(bucket, taker)
  loop
    if v_row.kind = 'rate' then
      if p_begins then
        update stepflow.buckets set started = started + 1 where bucket = v_row.bucket;
        insert into stepflow.starts (bucket, n, at_ms)
        values (v_row.bucket, v_row.started + 1, p_now);
        delete from stepflow.starts
         where bucket = v_row.bucket and at_ms <= p_now - v_row.per_ms;
      end if;
    else
      if not exists (
        select 1 from stepflow.seats where bucket = v_row.bucket and taker = v_row.taker)
      then
        update stepflow.buckets set held = held + 1 where bucket = v_row.bucket;
      end if;
      insert into stepflow.seats (bucket, taker, run_id)
      values (v_row.bucket, v_row.taker, p_run) on conflict do nothing;
    end if;
  end loop;
end;
$$;

-- The run stands up: return the buckets that have room by it.
create function stepflow.stand_up(p_run text) returns bigint[] language plpgsql as $$
declare
  v_row record;
  v_free bigint[] := '{}';
begin
  for v_row in delete from stepflow.seats where run_id = p_run returning bucket, taker loop
    if not exists (
      select 1 from stepflow.seats where bucket = v_row.bucket and taker = v_row.taker)
    then
      update stepflow.buckets set held = held - 1 where bucket = v_row.bucket;
      v_free := v_free || v_row.bucket;
    end if;
  end loop;
  return v_free;
end;
$$;

-- ---------------------------------------------------------------- the queue

-- Say when a rate limit lets the next one begin, to whoever waits for the clock.
create function stepflow.arm(p_bucket bigint, p_due bigint) returns void language plpgsql as $$
begin
  update stepflow.buckets set due_ms = p_due
   where bucket = p_bucket and due_ms is distinct from p_due;
  -- Whoever waits for the clock waits for the first.
  if found and not exists (
    select 1 from stepflow.buckets where due_ms <= p_due and bucket <> p_bucket)
  then
    perform pg_notify('stepflow_timed', '');
  end if;
end;
$$;

-- Put the lane behind a bucket: one that is full, else its first. Say whether one was.
create function stepflow.park(p_lane bigint, p_now bigint) returns boolean language plpgsql as $$
declare
  v_buckets bigint[];
  v_full bigint;
begin
  select buckets into v_buckets from stepflow.lanes where lane = p_lane;
  select bucket into v_full from unnest(v_buckets) with ordinality as b(bucket, place)
   where not stepflow.has_room(bucket, p_now) order by place limit 1;
  update stepflow.lanes set behind = coalesce(v_full, v_buckets[1]) where lane = p_lane;
  if v_full is null then
    return false;
  end if;
  perform stepflow.arm(v_full, stepflow.free_at(v_full))
    from stepflow.buckets where bucket = v_full and kind = 'rate';
  return true;
end;
$$;

-- The run leaves its lane, which is gone with the last.
create function stepflow.step_out(p_lane bigint) returns void language plpgsql as $$
begin
  update stepflow.lanes set length = length - 1 where lane = p_lane;
  delete from stepflow.lanes where lane = p_lane and length <= 0;
end;
$$;

-- The run is let in: it has its task, or hears of it.
create function stepflow.let_in(p_run text) returns void language plpgsql as $$
begin
  if not exists (select 1 from stepflow.inbox where run_id = p_run and kind = 'admitted') then
    perform stepflow.put(p_run, 'admitted', '{}');
  end if;
end;
$$;

-- Let begin whoever these buckets have room for: the lane first whose turn was longest ago.
create function stepflow.go_round(p_buckets bigint[]) returns void language plpgsql as $$
declare
  v_pending bigint[] := p_buckets;
  v_now bigint := stepflow.now_ms();
  v_lane stepflow.lanes;
  v_first stepflow.gated;
  v_bucket bigint;
  v_left integer := 1000;
begin
  loop
    select l.* into v_lane from stepflow.lanes l
     where l.behind = any(array(
             select distinct b from unnest(v_pending) b where stepflow.has_room(b, v_now)))
     order by l.turn limit 1;
    exit when not found;
    if v_left = 0 then
      -- Enough for one transaction: the rest is for whoever looks next.
      perform stepflow.arm(b, v_now) from unnest(v_pending) b
        where exists (select 1 from stepflow.lanes where behind = b);
      return;
    end if;
    if not exists (
      select 1 from unnest(v_lane.buckets) b where not stepflow.has_room(b, v_now))
    then
      v_left := v_left - 1;
      select * into strict v_first from stepflow.gated
       where lane = v_lane.lane and state = 'waits'
       order by priority desc, eligible_ms, seq limit 1;
      perform stepflow.sit(
        v_first.run_id, v_lane.buckets, v_first.lent, v_first.takers, v_now, true);
      update stepflow.gated set state = 'let-in', lane = null where run_id = v_first.run_id;
      update stepflow.lanes set turn = nextval('stepflow.turns') where lane = v_lane.lane;
      perform stepflow.step_out(v_lane.lane);
      perform stepflow.let_in(v_first.run_id);
    end if;
    if exists (select 1 from stepflow.lanes where lane = v_lane.lane)
       and not stepflow.park(v_lane.lane, v_now) then
      v_pending := v_pending || v_lane.buckets[1];
    end if;
  end loop;
  for v_bucket in
    select distinct b.bucket from stepflow.buckets b join unnest(v_pending) p on p = b.bucket
     where b.kind = 'rate'
  loop
    perform stepflow.arm(v_bucket, (
      select stepflow.free_at(v_bucket)
       where exists (select 1 from stepflow.lanes where behind = v_bucket)));
  end loop;
end;
$$;

-- The run stands in line.
create function stepflow.line_up(
  p_run text, p_workflow text, p_wanted bigint[], p_lent bigint[], p_takers text[],
  p_priority integer, p_eligible bigint, p_now bigint
) returns void language plpgsql as $$
declare
  v_lane bigint;
  v_length integer;
begin
  insert into stepflow.lanes as l (workflow, buckets, length, turn)
  values (p_workflow, p_wanted, 1, nextval('stepflow.turns'))
  on conflict (workflow, buckets) do update set length = l.length + 1
  returning lane, length into v_lane, v_length;
  insert into stepflow.gated
    (run_id, state, lane, priority, eligible_ms, seq, lent, takers)
  select p_run, 'waits', v_lane, p_priority, p_eligible, seq, p_lent, p_takers
    from stepflow.runs where run_id = p_run
  on conflict (run_id) do update
     set state = 'waits', lane = excluded.lane, priority = excluded.priority,
         eligible_ms = excluded.eligible_ms, lent = excluded.lent, takers = excluded.takers;
  if v_length = 1 then
    perform stepflow.park(v_lane, p_now);
  end if;
end;
$$;

-- Runs that are pending may begin, or wait for their turn; harmless twice. Raises SF430 with how many
-- wait already where no more may.
create function stepflow.enter(p_asks jsonb) returns void language plpgsql as $$
declare
  v_ask jsonb;
  v_run text;
  v_state text;
  v_now bigint;
  v_wanted bigint[];
  v_lent bigint[];
  v_takers text[];
  v_length integer;
begin
  perform stepflow.lock_gate();
  v_now := stepflow.now_ms();
  for v_ask in select * from jsonb_array_elements(p_asks) loop
    v_run := v_ask->>'run';
    select state into v_state from stepflow.gated where run_id = v_run;
    if v_state = 'let-in' then
      perform stepflow.let_in(v_run);
    end if;
    continue when v_state is not null
      or not exists (select 1 from stepflow.runs where run_id = v_run and status = 'pending');
    v_wanted := stepflow.buckets_of(v_ask);
    select coalesce(array_agg(h.bucket), '{}'), coalesce(array_agg(h.taker), '{}')
      into v_lent, v_takers
      from (select distinct on (h.bucket) h.bucket, h.taker
              from stepflow.held_above(v_ask->>'parent') h
             where h.bucket = any(v_wanted) order by h.bucket, h.depth) h;
    v_wanted := array(
      select w.b from unnest(v_wanted) with ordinality as w(b, place)
       where w.b <> all(v_lent) order by w.place);
    select length into v_length from stepflow.lanes
     where workflow = v_ask->>'workflow' and buckets = v_wanted;
    if v_length is null
       and not exists (select 1 from stepflow.lanes where behind = any(v_wanted))
       and not exists (select 1 from unnest(v_wanted) b where not stepflow.has_room(b, v_now))
    then
      perform stepflow.sit(v_run, v_wanted, v_lent, v_takers, v_now, true);
      insert into stepflow.gated (run_id, state) values (v_run, 'let-in');
      perform stepflow.let_in(v_run);
      continue;
    end if;
    if v_length >= (v_ask->>'most')::integer then
      raise exception sqlstate 'SF430' using message = v_length::text;
    end if;
    perform stepflow.line_up(
      v_run, v_ask->>'workflow', v_wanted, v_lent, v_takers, (v_ask->>'priority')::integer,
      coalesce((v_ask->>'eligible')::bigint, v_now), v_now);
    -- A rate may have room by now, and nobody has looked yet: in turn, not past those who wait.
    perform stepflow.go_round(v_wanted);
  end loop;
end;
$$;

-- A run that was let in begins: its worker records it in this transaction. Raises SF003 with those
-- that were not, or not any more: no run begins but by this.
create function stepflow.begin_gated(p_runs text[]) returns void language plpgsql as $$
declare
  v_late text[];
begin
  with begun as (
    update stepflow.gated set state = 'begun'
     where run_id = any(p_runs) and state = 'let-in' returning run_id
  )
  select array_agg(run_id) into v_late from unnest(p_runs) run_id
   where run_id not in (select begun.run_id from begun);
  if v_late is not null then
    raise exception sqlstate 'SF003' using message = array_to_string(v_late, ',');
  end if;
end;
$$;

-- Runs have ended, or do not want to begin any more: what they had is the next one's.
create function stepflow.leave(p_runs text[]) returns void language plpgsql as $$
declare
  v_row record;
  v_free bigint[] := '{}';
begin
  perform stepflow.lock_gate();
  for v_row in
    delete from stepflow.gated where run_id = any(p_runs) returning run_id, state, lane
  loop
    if v_row.state = 'waits' then
      perform stepflow.step_out(v_row.lane);
    end if;
    v_free := v_free || stepflow.stand_up(v_row.run_id);
  end loop;
  delete from stepflow.inbox where run_id = any(p_runs) and kind = 'admitted';
  perform stepflow.go_round(v_free);
end;
$$;

-- Let begin whom the clock lets, and what one transaction was too short for. Returns when to look
-- again: null, when nobody waits for the clock.
create function stepflow.look_at_gate() returns bigint language plpgsql as $$
declare
  v_due bigint[];
begin
  if exists (select 1 from stepflow.buckets where due_ms <= stepflow.now_ms()) then
    perform stepflow.lock_gate();
    with due as (
      update stepflow.buckets set due_ms = null where due_ms <= stepflow.now_ms() returning bucket
    )
    select array_agg(bucket) into v_due from due;
    perform stepflow.go_round(v_due);
  end if;
  return (select min(due_ms) - stepflow.now_ms() from stepflow.buckets);
end;
$$;

-- Forget buckets that nothing would be lost with.
create function stepflow.clean_gate() returns void language plpgsql as $$
begin
  if not pg_try_advisory_xact_lock(6013554829417574757) then
    return;
  end if;
  delete from stepflow.starts s using stepflow.buckets b, stepflow.limits l
   where b.bucket = s.bucket and (l.kind, l.id) = (b.kind, b.id)
     and s.at_ms <= stepflow.now_ms() - l.per_ms;
  delete from stepflow.buckets b
   where b.held = 0 and b.due_ms is null
     and not exists (select 1 from stepflow.lanes where buckets @> array[b.bucket])
     and not exists (select 1 from stepflow.starts s where s.bucket = b.bucket)
     and not exists (select 1 from stepflow.seats s where s.bucket = b.bucket);
end;
$$;

-- ---------------------------------------------------------------- deploys

-- Limits are so many from now on; whoever may begin by it does.
create function stepflow.set_limits(p_limits jsonb) returns void language plpgsql as $$
begin
  perform stepflow.lock_gate();
  insert into stepflow.limits as l (kind, id, count, per_ms, path)
  select p->>'kind', p->>'id', (p->>'count')::integer, (p->>'per')::bigint, p->>'path'
    from jsonb_array_elements(p_limits) p
  on conflict (kind, id) do update
     set count = excluded.count, per_ms = excluded.per_ms, path = excluded.path;
end;
$$;

-- Runs are counted by other limits from now on, in the order of their starts: `running` ones sit down
-- whether there is room or not, those that wait stand in the lines that are theirs now.
create function stepflow.reseat(p_asks jsonb) returns void language plpgsql as $$
declare
  v_ask jsonb;
  v_run text;
  v_now bigint := stepflow.now_ms();
  v_gated stepflow.gated;
  v_known boolean;
  v_wanted bigint[];
  v_lent bigint[];
  v_takers text[];
begin
  for v_ask in select * from jsonb_array_elements(p_asks) loop
    v_run := v_ask->>'run';
    select * into v_gated from stepflow.gated where run_id = v_run;
    v_known := found;
    if not v_known and not (v_ask->>'running')::boolean then
      -- Delayed, paused, or about to enter by itself.
      continue;
    end if;
    perform stepflow.stand_up(v_run);
    if v_gated.state = 'waits' then
      perform stepflow.step_out(v_gated.lane);
    end if;
    v_wanted := stepflow.buckets_of(v_ask);
    if v_wanted = '{}' then
      if v_gated.state = 'waits' then
        update stepflow.gated set state = 'let-in', lane = null where run_id = v_run;
        perform stepflow.let_in(v_run);
      elsif v_gated.state = 'begun' then
        delete from stepflow.gated where run_id = v_run;
      end if;
      continue;
    end if;
    select coalesce(array_agg(h.bucket), '{}'), coalesce(array_agg(h.taker), '{}')
      into v_lent, v_takers
      from (select distinct on (h.bucket) h.bucket, h.taker
              from stepflow.held_above(v_ask->>'parent') h
             where h.bucket = any(v_wanted) order by h.bucket, h.depth) h;
    v_wanted := array(
      select w.b from unnest(v_wanted) with ordinality as w(b, place)
       where w.b <> all(v_lent) order by w.place);
    if v_gated.state = 'waits' then
      perform stepflow.line_up(
        v_run, v_ask->>'workflow', v_wanted, v_lent, v_takers, (v_ask->>'priority')::integer,
        v_gated.eligible_ms, v_now);
    else
      perform stepflow.sit(v_run, v_wanted, v_lent, v_takers, v_now, false);
      insert into stepflow.gated (run_id, state) values (v_run, 'begun') on conflict do nothing;
    end if;
  end loop;
end;
$$;

-- ---------------------------------------------------------------- what others see

-- Where runs that wait stand, and for what: as if all lanes that want the same took their turns.
create function stepflow.places(p_runs text[]) returns table (
  run_id text, ahead bigint, kind text, id text, count integer, per_ms bigint, path text, key text,
  free_at bigint, holders text[]
) language plpgsql as $$
declare
  v_now bigint := stepflow.now_ms();
  v_row record;
  v_own bigint;
begin
  for v_row in
    select g.run_id, g.priority, g.eligible_ms, g.seq, l.lane, l.turn, b.bucket, b.kind, b.id, b.key
      from stepflow.gated g
      join stepflow.lanes l on l.lane = g.lane
      join stepflow.buckets b on b.bucket = coalesce(
             (select w.b from unnest(l.buckets) with ordinality as w(b, place)
               where not stepflow.has_room(w.b, v_now) order by w.place limit 1), l.behind)
     where g.run_id = any(p_runs) and g.state = 'waits'
  loop
    run_id := v_row.run_id;
    kind := v_row.kind;
    id := v_row.id;
    key := v_row.key;
    select l.count, l.per_ms, l.path into count, per_ms, path
      from stepflow.limits l where (l.kind, l.id) = (v_row.kind, v_row.id);
    select count(*) into v_own from stepflow.gated g
     where g.lane = v_row.lane and g.state = 'waits'
       and (-g.priority, g.eligible_ms, g.seq)
         < (-v_row.priority, v_row.eligible_ms, v_row.seq);
    select v_own + coalesce(sum(least(l.length, v_own + (l.turn < v_row.turn)::integer)), 0)
      into ahead
      from stepflow.lanes l
     where l.buckets @> array[v_row.bucket] and l.lane <> v_row.lane;
    free_at := stepflow.free_at(v_row.bucket);
    holders := array(
      select distinct taker from stepflow.seats s where s.bucket = v_row.bucket limit 5);
    return next;
  end loop;
end;
$$;
