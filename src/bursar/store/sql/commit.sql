-- One commit, or up to a hundred of different subjects, in one transaction and one trip: these statements, one after another.
-- Each sees what was committed before the locks of those before it were got. One lock order everywhere: names, then heads.
-- The store leaves out what stands between `-- when X` and `-- end` where a commit has no X.

-- name: locks
-- In the order of their names. Whoever moves a clock, or listens, holds it alone; whoever sleeps by it, or speaks, shares it.
select count(x.held) from (
  select case when alone then pg_advisory_xact_lock(hashtextextended(name, 8720))
    else pg_advisory_xact_lock_shared(hashtextextended(name, 8720)) end::text as held
  from json_to_recordset(%(locks)s::json) as i(name text, alone boolean)) x

-- name: ensure
with fresh as (insert into subjects (tenant, kind, id)
  select i.tenant, i.kind, i.id from json_to_recordset(%(writes)s::json) as i(tenant text, kind text, id text)
   where not exists (select from subjects s where s.tenant = i.tenant and s.kind = i.kind and s.id = i.id)
   order by 1, 2, 3 on conflict do nothing returning sk, tenant)
insert into heads (sk, tenant) select sk, tenant from fresh

-- name: heads
-- Everyone whom the commit may touch, in one order.
select count(*) from (select from heads where sk in (
  select s.sk from json_to_recordset(%(writes)s::json) as i(tenant text, kind text, id text)
    join subjects s using (tenant, kind, id)
-- when events
  union all select w.sk from json_to_recordset(%(events)s::json) as i(of text)
    join watches w on w.rail = 'bursar' and w.key = i.of
-- end
-- when transfers
  union all select w.sk from (
      select tenant, holder, asset, sum(greatest(minor, 0)) as gain
        from json_to_recordset(%(transfers)s::json) as i(tenant text, holder text, asset text, minor numeric)
       group by tenant, holder, asset) i
    join wakes w on w.clock = concat_ws('/', 'available', i.tenant, i.holder, i.asset)
     and w.at <= i.gain + coalesce((select sum(minor) from sums s where s.tenant = i.tenant and s.asset = i.asset
       and s.account in (i.holder, i.holder || '.reserved')), 0)
-- end
-- when advance
  union all select w.sk from json_to_record(%(advance)s::json) as a(rail text, watched bigint)
    join watches w on w.rail = a.rail and not w.covered and not w.ended and w.version <= a.watched
  union all select w.sk from json_to_record(%(advance)s::json) as a(rail text, position bigint, watermark bigint)
    cross join lateral (values ('position/' || a.rail, a.position), ('watermark/' || a.rail, a.watermark)) m(clock, value)
    join wakes w on w.clock = m.clock and w.at <= m.value
  union all select r.sk from json_to_record(%(advance)s::json) as a(rail text, above bigint, branch int)
    join records r on r.rail = a.rail and r.position > a.above and r.branch < a.branch
-- end
  ) order by sk for update) x

-- name: commit
with w as materialized (
  select i.*, s.sk, h.version as was, h.serial
    from json_to_recordset(%(writes)s::json) as i(u int, c int, tenant text, kind text, id text, expect bigint,
      until boolean, due bigint, state text, mover text, status text)
    join subjects s using (tenant, kind, id) join heads h using (sk)),
-- when records
given as materialized (
  select w.sk, w.c, i.* from json_to_recordset(%(records)s::json) as i(u int, o int, key text, type text, essence text,
    rail text, position bigint, branch int, body text) join w using (u)),
-- end
-- when names
called as materialized (
  select * from json_to_recordset(%(names)s::json) as i(u int, kind text, value text, is_unique boolean)),
-- end
-- when transfers
lines as materialized (
  select w.sk, w.c, i.* from json_to_recordset(%(transfers)s::json) as i(u int, o int, tenant text, posting text,
    account text, holder text, asset text, minor numeric) join w using (u)),
held as materialized (
  select c, tenant, holder, asset, min(o) as o, sum(minor) as delta,
    sum(-minor) filter (where account <> holder and minor < 0) as asked
  from lines group by c, tenant, holder, asset),
weighed as materialized (
  select h.*, sum(least(delta, 0)) over same as worst, count(*) over same as sharing,
    coalesce((select sum(minor) from sums s where s.tenant = h.tenant and s.asset = h.asset
      and s.account in (h.holder, h.holder || '.reserved')), 0) as before
  from held h window same as (partition by tenant, holder, asset)),
-- end
-- when advance
asked as materialized (
  select * from json_to_record(%(advance)s::json) as a(rail text, position bigint, trail text[], branch int, watermark bigint,
    watched bigint, from_position bigint, from_trail text[], from_branch int, from_watermark bigint, from_watched bigint,
    above bigint, key text, body text, scanned json)),
-- end
-- The first reason of each commit. "again": several ask for the same money, and not all may have it; one by one.
refused as materialized (select distinct on (c) * from (
  select c, 1 as rank, u, 'version' as what, sk, '' as account, '' as asset, 0::numeric as need from w where expect <> was
-- when records
  union all select g.c, 1, g.u, 'key', g.sk, '', '', 0 from given g join records r using (sk, key)
   where g.essence is not null and g.essence <> r.essence
-- end
-- when names
  union all select w.c, 1, w.u, 'name', w.sk, '', '', 0
    from called i join w using (u)
    join names x on x.tenant = w.tenant and x.kind = i.kind and x.value = i.value and x.sk <> w.sk where i.is_unique
-- end
-- when transfers
  union all select c, 2, o, case when sharing = 1 then 'overdrawn' else 'again' end, null, holder, asset, asked from weighed
   where asked > 0 and case when sharing = 1 then before + delta < least(0, before) else before + worst < 0 end
-- end
-- when advance
  union all select 0, 0, 0, 'cursor', null, '', '', 0 from asked a left join cursors k using (rail)
   where (coalesce(k.position, 0), coalesce(k.trail, '{}'), coalesce(k.branch, 0), coalesce(k.watermark, 0),
      coalesce(k.watched, 0)) <> (a.from_position, a.from_trail, a.from_branch, a.from_watermark, a.from_watched)
-- end
  ) x order by c, rank, u, what <> 'version', what <> 'key'),
ok as materialized (select * from w where not exists (select from refused r where r.c = w.c)),
-- when advance
moved as materialized (select * from asked where not exists (select from refused)),
at_cursor as (insert into cursors as k (rail, position, trail, branch, watermark, watched)
  select rail, position, trail, branch, watermark, watched from moved
  on conflict (rail) do update set position = excluded.position, trail = excluded.trail, branch = excluded.branch,
    watermark = excluded.watermark, watched = excluded.watched),
covers as materialized (
  select x.* from moved a join watches x on x.rail = a.rail and not x.covered and not x.ended and x.scanned
     and x.version <= a.watched),
scans as materialized (
  select x.* from moved a cross join json_to_recordset(a.scanned) as i(key text, since bigint)
    join watches x on x.rail = a.rail and x.key = i.key and x.since = i.since and not x.covered and not x.ended
     and not x.scanned and x.version <= a.from_watched),
-- end
-- when transfers
entered as materialized (
  select concat_ws('/', 'available', w.tenant, w.holder, w.asset) as clock, max(w.before) + sum(w.delta) as value
    from weighed w where not exists (select from refused r where r.c = w.c) group by w.tenant, w.holder, w.asset),
sums_out as (insert into sums as s (tenant, account, asset, minor)
  select l.tenant, l.account, l.asset, sum(l.minor) from lines l join ok using (u) group by 1, 2, 3 order by 1, 2, 3
  on conflict (tenant, account, asset) do update set minor = s.minor + excluded.minor),
-- end
-- when until
-- What it sleeps by, and what each clock says: it may have struck since the pass began.
sleeps as materialized (
  select ok.sk, ok.tenant, i.*, coalesce(case i.what
-- when advance
      when 'position' then coalesce((select a.position from moved a where a.rail = i.rail),
        (select k.position from cursors k where k.rail = i.rail))
      when 'watermark' then coalesce((select a.watermark from moved a where a.rail = i.rail),
        (select k.watermark from cursors k where k.rail = i.rail))
-- end
-- unless advance
      when 'position' then (select k.position from cursors k where k.rail = i.rail)
      when 'watermark' then (select k.watermark from cursors k where k.rail = i.rail)
-- end
      else (select sum(s.minor) from sums s where s.tenant = i.of and s.asset = i.asset
        and s.account in (i.rail, i.rail || '.reserved')) end, 0) as value
    from json_to_recordset(%(until)s::json) as i(u int, clock text, at bigint, what text, rail text, of text, asset text)
    join ok using (u)),
kept as materialized (
  select sk, tenant, clock, at from sleeps s where s.at > s.value
-- when transfers
     and s.at > coalesce((select e.value from entered e where e.clock = s.clock), s.value)
-- end
  ),
-- end
struck as materialized (
  select 0::bigint as sk, '' as clock, false as first where false
-- when advance
  union all select w.sk, w.clock, true from moved a
    cross join lateral (values ('position/' || a.rail, a.position), ('watermark/' || a.rail, a.watermark)) m(clock, value)
    join wakes w on w.clock = m.clock and w.at <= m.value
-- end
-- when transfers
  union all select w.sk, w.clock, false from entered e join wakes w on w.clock = e.clock and w.at <= e.value
   where not exists (select from ok where ok.sk = w.sk and ok.until)
-- end
  ),
gone as (delete from wakes w using (
  select s.sk, s.clock from struck s where not exists (select from ok where ok.sk = s.sk and ok.until)
  union all select x.sk, x.clock from ok join wakes x using (sk) where ok.until
-- when until
   and not exists (select from kept k where k.sk = x.sk and k.clock = x.clock)
-- end
  ) d where w.sk = d.sk and w.clock = d.clock),
-- when until
asleep as (insert into wakes as w (sk, tenant, clock, at) select sk, tenant, clock, at from kept
  on conflict (sk, clock) do update set at = excluded.at where w.at <> excluded.at),
-- end
-- when watches
wanted as materialized (
  select ok.sk, ok.tenant, i.* from json_to_recordset(%(watches)s::json) as i(u int, o int, rail text, key text, since bigint)
    join ok using (u)),
begun as materialized (
  select v.* from wanted v left join watches x using (sk, rail, key, since) where x.sk is null or x.ended),
-- end
ended as materialized (
  select ok.u, x.* from ok join watches x using (sk) where ok.status is not null and not x.ended
-- when watches
     and not exists (select from wanted v where (v.sk, v.rail, v.key, v.since) = (x.sk, x.rail, x.key, x.since))
-- end
  ),
changed as materialized (
  select y.*, row_number() over rails as k, count(*) over (partition by rail) as of from (
    select u, 1 as phase, version as o, sk, tenant, rail, key, since, scanned, true as ended from ended
     where rail <> 'bursar' and key <> ''
-- when watches
    union all select u, 0, o, sk, tenant, rail, key, since, since = -1, false from begun where rail <> 'bursar' and key <> ''
-- end
-- when advance
    union all select -1, 0, version, sk, tenant, rail, key, since, true, false from scans
-- end
  ) y window rails as (partition by rail order by u, phase, o)),
versions as (insert into watch_sets as s (rail, version) select rail, count(*) from changed group by rail order by rail
  on conflict (rail) do update set version = s.version + excluded.version returning rail, version),
watches_out as (insert into watches as w (sk, tenant, rail, key, since, version, scanned, covered, ended)
  select y.sk, y.tenant, y.rail, y.key, y.since, v.version - y.of + y.k, y.scanned, y.since = -1, y.ended
    from changed y join versions v using (rail)
-- when watches
  union all select sk, tenant, rail, key, since, 0, true, true, false from begun where rail = 'bursar' or key = ''
-- end
-- when advance
  union all select sk, tenant, rail, key, since, version, true, true, false from covers
-- end
  on conflict (sk, rail, key, since) do update set version = excluded.version, scanned = excluded.scanned,
    covered = excluded.covered, ended = excluded.ended),
watches_gone as (delete from watches w using ended e where (w.sk, w.rail, w.key, w.since) = (e.sk, e.rail, e.key, e.since)
   and (e.rail = 'bursar' or e.key = '')),
-- when events
told as materialized (
  select ok.sk, ok.tenant, i.* from json_to_recordset(%(events)s::json) as i(u int, of text, version bigint, body text,
    report text) join ok using (u)),
events_out as (insert into events (sk, version, tenant, body, report)
  select sk, version, tenant, body::json, report::json from told),
unnumbered_out as (insert into unnumbered (tenant, sk, version) select tenant, sk, version from told order by u),
-- end
owed as (insert into deliveries as d (sink, sk, tenant, wanted, confirmed, turn)
  select sink, sk, tenant, max(wanted), max(confirmed), nextval('turns') from (
    select '' as sink, 0::bigint as sk, '' as tenant, 0::bigint as wanted, 0::bigint as confirmed where false
-- when events
    union all select s.sink, t.sk, t.tenant, t.version, 0 from told t cross join sinks s
-- end
-- when delivered
    union all select i.sink, s.sk, s.tenant, 0, i.version
      from json_to_recordset(%(delivered)s::json) as i(c int, sink text, tenant text, kind text, id text, version bigint)
      join subjects s using (tenant, kind, id) where not exists (select from refused r where r.c = i.c)
-- end
  ) x group by sink, sk, tenant order by sink, sk
  on conflict (sink, sk) do update set wanted = greatest(d.wanted, excluded.wanted),
    confirmed = greatest(d.confirmed, excluded.confirmed),
    turn = case when d.wanted > d.confirmed then d.turn else excluded.turn end),
-- Reports: to whoever listens, and of the last event to whoever begins to.
heard as materialized (
  select 0::bigint as sk, '' as of, 0::bigint as version, '' as body, 0 as u where false
-- when events
  union all select w.sk, t.of, t.version, t.report, t.u from told t join watches w on w.rail = 'bursar' and w.key = t.of
   where not exists (select from ended e where e.sk = w.sk and e.rail = w.rail and e.key = w.key)
-- end
-- when events and watches
  union all select b.sk, t.of, t.version, t.report, t.u from told t join begun b on b.rail = 'bursar' and b.key = t.of
-- end
-- when watches
  union all select b.sk, b.key, e.version, e.report::text, b.u from begun b
    join subjects s on s.tenant = split_part(b.key, '/', 1) and s.kind = split_part(b.key, '/', 2)
     and s.id = substr(b.key, length(split_part(b.key, '/', 1)) + length(split_part(b.key, '/', 2)) + 3)
    cross join lateral (select version, report from events e where e.sk = s.sk order by version desc limit 1) e
   where b.rail = 'bursar'
-- end
  ),
-- New records, numbered in the order in which they landed: rollbacks, what was given, reports.
fresh as materialized (
  select f.*, h.tenant, h.records + row_number() over (partition by sk order by f.u, f.phase, f.o) as n from (
    select distinct on (sk, key) * from (
      select sk, u, 2 as phase, 0 as o, 'report/' || of || '/' || version as key, 'report' as type, null as essence,
        null as rail, null::bigint as position, null::int as branch, body from heard
-- when records
      union all select sk, u, 1, o, key, type, essence, rail, position, branch, body from given join ok using (sk, u)
-- end
-- when rollback
      union all select distinct r.sk, -1, 0, 0, a.key, 'rollback', null, null, null::bigint, null::int, a.body
        from moved a join records r on r.rail = a.rail and r.position > a.above and r.branch < a.branch
-- end
    ) g order by sk, key, u, phase, o) f
  join heads h using (sk) left join records r using (sk, key) where r.sk is null),
-- Whatever makes a subject due raises its version. `phase`: -1 before it was written, 0 by its write, 1 after.
bumps as materialized (
  select sk, 0 as phase, 1 as k, false as slept from (
    select sk from ok where expect is not null union select sk from fresh where phase = 1) x
  union all select sk, case when phase = 0 then -1 else 1 end, 1, false from fresh where phase <> 1
  union all select sk, case when first then -1 else 1 end, 1, false from struck
-- when until
  union all select sk, case when at <= value then 0 else 1 end, 1, at <= value from sleeps s
   where not exists (select from kept k where k.sk = s.sk and k.clock = s.clock)
-- end
-- when watches
  union all select sk, 1, 1, false from begun where rail <> 'bursar' and key = ''
-- end
-- when advance
  union all select sk, -1, 1, false from covers
-- end
  ),
-- `late`: woken again after it went to sleep. `lost`: a pass that was too slow must not keep others waiting.
touched as materialized (
  select b.*, ok.u, ok.until, ok.due, h.serial, b.after > 0 as late from (
    select sk, sum(k)::int as k, coalesce(sum(k) filter (where phase <= 0), 0) as returned,
      coalesce(sum(k) filter (where phase = 1), 0) + coalesce(sum(k) filter (where slept), 0) as after,
      sum(landed)::int as landed, bool_or(lost) as lost
    from (select sk, phase, k, slept, 0 as landed, false as lost from bumps
      union all select sk, 1, 0, false, 1, false from fresh
      union all select sk, 1, 0, false, 0, false from ok
      union all select sk, 1, 0, false, 0, true from refused where what = 'version') x group by sk) b
  join heads h using (sk) left join ok using (sk)),
born as materialized (
  select sk, nextval('serials') as serial from (select sk from touched where serial is null and k > 0 order by u) x),
heads_out as (update heads h set version = h.version + t.k, records = h.records + t.landed,
    due = case when t.until then case when t.late then least(t.due, %(now)s) else t.due end
      when t.k > 0 then least(h.due, %(now)s) else h.due end,
    lease = case when t.until or t.lost then 0 else h.lease end, serial = coalesce(h.serial, b.serial)
  from touched t left join born b using (sk) where h.sk = t.sk and (t.k > 0 or t.until or t.lost)),
records_out as (insert into records (sk, n, tenant, version, key, type, essence, rail, position, branch, body)
  select f.sk, f.n, f.tenant, h.version + t.k, f.key, f.type, f.essence, f.rail, f.position, f.branch, f.body::json
    from fresh f join touched t using (sk) join heads h using (sk)),
-- when transfers
transfers_out as (insert into transfers (sk, version, n, tenant, posting, account, asset, minor)
  select l.sk, ok.was + t.returned, l.o, l.tenant, l.posting, l.account, l.asset, l.minor
    from lines l join ok using (u) join touched t on t.sk = l.sk),
-- end
statuses_out as (insert into statuses as t (sk, tenant, kind, serial, state, mover, body)
  select ok.sk, ok.tenant, ok.kind, coalesce(ok.serial, b.serial), ok.state, ok.mover, ok.status::json
    from ok left join born b using (sk) where ok.status is not null
  on conflict (sk) do update set state = excluded.state, mover = excluded.mover, body = excluded.body
   where t.body::text <> excluded.body::text),
-- when names
named as (insert into names as x (tenant, kind, value, sk, is_unique)
  select ok.tenant, i.kind, i.value, ok.sk, bool_or(i.is_unique) from called i join ok using (u)
   group by 1, 2, 3, 4 order by 1, 2, 3, 4
  on conflict (tenant, kind, value, sk) do update set is_unique = excluded.is_unique where x.is_unique <> excluded.is_unique),
-- end
unnamed as (delete from names x using ok where x.sk = ok.sk and ok.status is not null
-- when names
   and not exists (select from called i where (i.u, i.kind, i.value) = (ok.u, x.kind, x.value))
-- end
  )
select coalesce(json_agg(json_build_array(c, what, subject, version, account, asset, need)), '[]')::text from (
  select r.c, r.what, (select json_build_object('tenant', s.tenant, 'kind', s.kind, 'id', s.id)
    from subjects s where s.sk = r.sk) as subject,
    0::bigint as version, r.account, r.asset, r.need from refused r
  union all select * from (
    select distinct on (ok.c) ok.c, '', null::json, ok.was + coalesce(t.returned, 0), '', '', 0
      from ok left join touched t using (sk) order by ok.c, ok.u desc) x) y
