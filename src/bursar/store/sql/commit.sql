-- One commit, or up to a hundred of different subjects, in one transaction and one trip: these statements, one after another.
-- Each sees what was committed before the locks of those before it were got. One lock order everywhere: names, then heads.
-- The store leaves out what stands between `-- when X` and `-- end` where a commit has no X.
-- `offset 0` and `any(array(…))`: a lookup a row, by index, whatever the statistics say; a plan outlives an empty table.

-- name: locks
-- In the order of their names. Whoever moves a clock, or listens, holds it alone; whoever sleeps by it, or speaks, shares it.
select count(x.held) from (
  select case when alone then pg_advisory_xact_lock(hashtextextended(name, 8720))
    else pg_advisory_xact_lock_shared(hashtextextended(name, 8720)) end::text as held
  from json_to_recordset(%(locks)s::json) as i(name text, alone boolean)) x

-- name: ensure
with fresh as (insert into subjects (tenant, kind, id)
  select i.tenant, i.kind, i.id from json_to_recordset(%(subjects)s::json) as i(tenant text, kind text, id text)
   where not exists (select from subjects s where (s.tenant, s.kind, s.id) = (i.tenant, i.kind, i.id) offset 0)
   order by 1, 2, 3 on conflict do nothing returning sk, tenant)
insert into heads (sk, tenant) select sk, tenant from fresh

-- name: heads
-- Everyone whom the commit may touch, in one order.
select count(*) from (select from heads where sk = any(array(
  select s.sk from json_to_recordset(%(subjects)s::json) as i(tenant text, kind text, id text) cross join lateral (
    select sk from subjects s where (s.tenant, s.kind, s.id) = (i.tenant, i.kind, i.id) offset 0) s
-- when events
  union all select w.sk from json_to_recordset(%(events)s::json) as i(of text) cross join lateral (
    select sk from watches where rail = 'bursar' and key = i.of offset 0) w
-- end
-- when transfers
  union all select w.sk from (
      select tenant, holder, asset, sum(greatest(minor, 0)) as gain
        from json_to_recordset(%(transfers)s::json) as i(tenant text, holder text, asset text, minor numeric)
       group by tenant, holder, asset) i
    cross join lateral (select sk from wakes w where w.clock = concat_ws('/', 'available', i.tenant, i.holder, i.asset)
      and w.at <= i.gain + coalesce((select sum(minor) from sums s where s.tenant = i.tenant and s.asset = i.asset
        and s.account in (i.holder, i.holder || '.reserved')), 0) offset 0) w
-- end
-- when advance
  union all select w.sk from json_to_record(%(advance)s::json) as a(rail text, watched bigint) cross join lateral (
    select sk from watches w where w.rail = a.rail and not w.covered and not w.ended and w.version <= a.watched offset 0) w
  union all select w.sk from json_to_record(%(advance)s::json) as a(rail text, position bigint, watermark bigint)
    cross join lateral (values ('position/' || a.rail, a.position), ('watermark/' || a.rail, a.watermark)) m(clock, value)
    cross join lateral (select sk from wakes w where w.clock = m.clock and w.at <= m.value offset 0) w
-- end
-- when rollback
  union all select r.sk from json_to_record(%(advance)s::json) as a(rail text, above bigint, branch int) cross join lateral (
    select sk from records r where r.rail = a.rail and r.position > a.above and r.branch < a.branch offset 0) r
-- end
  )) order by sk for update) x

-- name: commit
with w as materialized (
  select i.*, s.sk, coalesce(h.version, 0) as was, h.records, h.serial
    from json_to_recordset(%(writes)s::json) as i(u int, c int, tenant text, kind text, id text, expect bigint,
      until boolean, due bigint, state text, mover text, status text)
    left join lateral (select sk from subjects s where (s.tenant, s.kind, s.id) = (i.tenant, i.kind, i.id) offset 0) s
      on true
    left join lateral (select version, records, serial from heads h where h.sk = s.sk offset 0) h on true),
-- when records
given as materialized (
  select w.sk, w.c, i.* from json_to_recordset(%(records)s::json) as i(u int, o int, key text, type text, essence text,
    rail text, position bigint, branch int, body text) join w using (u)),
-- end
-- when names
called as materialized (
  select w.c, w.tenant, w.sk, i.* from json_to_recordset(%(names)s::json) as i(u int, kind text, value text,
    is_unique boolean) join w using (u)),
-- end
-- when transfers
lines as materialized (
  select w.sk, w.c, i.* from json_to_recordset(%(transfers)s::json) as i(u int, o int, tenant text, posting text,
    account text, holder text, asset text, minor numeric, asks boolean) join w using (u)),
held as materialized (
  select c, tenant, holder, asset, sum(minor) as delta, min(o) filter (where asks and account <> holder and minor < 0) as o,
    sum(-minor) filter (where asks and account <> holder and minor < 0) as asked
  from lines group by c, tenant, holder, asset),
weighed as materialized (
  select h.*, sum(least(delta, 0)) over same as worst, count(*) over same as sharing,
    coalesce((select sum(minor) from sums s where s.tenant = h.tenant and s.asset = h.asset
      and s.account in (h.holder, h.holder || '.reserved')), 0) as before
  from held h window same as (partition by tenant, holder, asset)),
-- end
-- when advance
asked as materialized (
  select * from json_to_record(%(advance)s::json) as a(rail text, position bigint, trail text[], branch int,
    watermark bigint, watched bigint, from_position bigint, from_trail text[], from_branch int, from_watermark bigint,
    from_watched bigint, above bigint, key text, body text, scanned json)),
-- end
-- The first reason of each commit. "again": once more, alone: several ask for the same money and not all may have it, or
-- evidence came of a subject that is not there yet.
refused as materialized (select distinct on (c) * from (
  select c, 1 as rank, u, 1 as of, 'version' as what, sk, '' as account, '' as asset, 0::numeric as need
    from w where expect <> was
  union all select c, 1, u, 0, 'again', null, '', '', 0 from w where sk is null and coalesce(expect, 0) = 0
-- when records
  union all select g.c, 1, g.u, 2, 'key', g.sk, '', '', 0 from given g cross join lateral (
    select from records r where r.sk = g.sk and r.key = g.key and r.essence <> g.essence offset 0) r
   where g.essence is not null
-- end
-- when names
  union all select g.c, 1, g.u, 3, 'name', g.sk, '', '', 0 from called g cross join lateral (
    select from names x where (x.tenant, x.kind, x.value) = (g.tenant, g.kind, g.value) and x.sk <> g.sk offset 0) x
   where g.is_unique
-- end
-- when transfers
  union all select c, 2, o, 1, case when sharing = 1 then 'overdrawn' else 'again' end, null, holder, asset, asked
    from weighed
   where asked > 0 and case when sharing = 1 then before + delta < least(0, before) else before + worst < 0 end
-- end
-- when advance
  union all select 0, 0, 0, 1, 'cursor', null, '', '', 0 from asked a left join cursors k using (rail)
   where (coalesce(k.position, 0), coalesce(k.trail, '{}'), coalesce(k.branch, 0), coalesce(k.watermark, 0),
      coalesce(k.watched, 0)) <> (a.from_position, a.from_trail, a.from_branch, a.from_watermark, a.from_watched)
-- end
  ) x order by c, rank, u, of),
ok as materialized (select * from w where c not in (select c from refused)),
-- when advance
moved as materialized (select * from asked where not exists (select from refused)),
at_cursor as (insert into cursors as k (rail, position, trail, branch, watermark, watched)
  select rail, position, trail, branch, watermark, watched from moved
  on conflict (rail) do update set position = excluded.position, trail = excluded.trail, branch = excluded.branch,
    watermark = excluded.watermark, watched = excluded.watched),
covers as materialized (
  select x.* from moved a cross join lateral (select * from watches x where x.rail = a.rail and not x.covered
    and not x.ended and x.scanned and x.version <= a.watched offset 0) x),
scans as materialized (
  select x.* from moved a cross join lateral (select * from watches x where x.rail = a.rail and not x.covered
    and not x.ended and not x.scanned and x.version <= a.from_watched offset 0) x
   where (x.key, x.since) in (select key, since from json_to_recordset(a.scanned) as i(key text, since bigint))),
-- end
-- when transfers
entered as materialized (
  select concat_ws('/', 'available', w.tenant, w.holder, w.asset) as clock, max(w.before) + sum(w.delta) as value
    from weighed w where c not in (select c from refused) group by w.tenant, w.holder, w.asset),
sums_out as (insert into sums as s (tenant, account, asset, minor)
  select l.tenant, l.account, l.asset, sum(l.minor) from lines l join ok using (u) group by 1, 2, 3 order by 1, 2, 3
  on conflict (tenant, account, asset) do update set minor = s.minor + excluded.minor),
-- end
-- when until
-- What it sleeps by, and what each clock says: it may have struck since the pass began.
read_to as materialized (
  select rail, position, watermark from cursors
-- when advance
   where rail not in (select rail from moved) union all select rail, position, watermark from moved
-- end
  ),
clocks as materialized (
  select ok.sk, ok.tenant, i.*, coalesce(case i.what
      when 'position' then (select k.position from read_to k where k.rail = i.rail)
      when 'watermark' then (select k.watermark from read_to k where k.rail = i.rail)
      else (select sum(s.minor) from sums s where s.tenant = i.of and s.asset = i.asset
        and s.account in (i.rail, i.rail || '.reserved')) end, 0) as value
    from json_to_recordset(%(until)s::json) as i(u int, clock text, at bigint, what text, rail text, of text, asset text)
    join ok using (u)),
sleeps as materialized (
  select c.*, at <= value as first, at <= value
-- when transfers
    or at <= coalesce((select e.value from entered e where e.clock = c.clock), value)
-- end
    as woken from clocks c),
-- end
struck as materialized (
  select 0::bigint as sk, '' as clock, false as first where false
-- when advance
  union all select w.sk, m.clock, true from moved a
    cross join lateral (values ('position/' || a.rail, a.position), ('watermark/' || a.rail, a.watermark)) m(clock, value)
    cross join lateral (select sk from wakes w where w.clock = m.clock and w.at <= m.value offset 0) w
-- end
-- when transfers
  union all select w.sk, e.clock, false from entered e cross join lateral (
      select sk from wakes w where w.clock = e.clock and w.at <= e.value offset 0) w
   where w.sk not in (select sk from ok where until)
-- end
  ),
waking as materialized (
  select s.sk, s.clock from struck s where s.sk not in (select sk from ok where until)
  union all select ok.sk, x.clock from ok cross join lateral (select clock from wakes x where x.sk = ok.sk offset 0) x
   where ok.until
-- when until
     and (ok.sk, x.clock) not in (select sk, clock from sleeps where not woken)
-- end
  ),
gone as (delete from wakes w using waking d
  where w.sk = any(array(select sk from waking)) and w.sk = d.sk and w.clock = d.clock),
-- when until
asleep as (insert into wakes as w (sk, tenant, clock, at) select sk, tenant, clock, at from sleeps where not woken
  on conflict (sk, clock) do update set at = excluded.at where w.at <> excluded.at),
-- end
-- when watches
wanted as materialized (
  select ok.sk, ok.tenant, i.* from json_to_recordset(%(watches)s::json) as i(u int, o int, rail text, key text,
    since bigint) join ok using (u)),
begun as materialized (
  select v.* from wanted v where not exists (select from watches x
    where (x.sk, x.rail, x.key, x.since) = (v.sk, v.rail, v.key, v.since) and not x.ended offset 0)),
-- end
ended as materialized (
  select ok.u, x.* from ok cross join lateral (select * from watches x where x.sk = ok.sk and not x.ended offset 0) x
   where ok.status is not null
-- when watches
     and (x.sk, x.rail, x.key, x.since) not in (select sk, rail, key, since from wanted)
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
watches_gone as (delete from watches w using ended e
  where w.sk = any(array(select sk from ended where rail = 'bursar' or key = '')) and (w.rail = 'bursar' or w.key = '')
    and (w.sk, w.rail, w.key, w.since) = (e.sk, e.rail, e.key, e.since)),
-- when events
told as materialized (
  select ok.sk, ok.tenant, i.* from json_to_recordset(%(events)s::json) as i(u int, of text, version bigint, body text,
    report text) join ok using (u)),
events_out as (insert into events (sk, version, tenant, body, report)
  select sk, version, tenant, body::json, report::json from told),
unnumbered_out as (insert into unnumbered (tenant, sk, version) select tenant, sk, version from told order by u),
-- end
-- when delivered
confirmed as materialized (
  select i.sink, s.sk, i.tenant, i.version
    from json_to_recordset(%(delivered)s::json) as i(c int, sink text, tenant text, kind text, id text, version bigint)
    cross join lateral (select sk from subjects s where (s.tenant, s.kind, s.id) = (i.tenant, i.kind, i.id) offset 0) s
   where i.c not in (select c from refused)),
-- end
owed as (insert into deliveries as d (sink, sk, tenant, wanted, confirmed, turn)
  select sink, sk, tenant, max(wanted), max(confirmed), nextval('turns') from (
    select '' as sink, 0::bigint as sk, '' as tenant, 0::bigint as wanted, 0::bigint as confirmed where false
-- when events
    union all select s.sink, t.sk, t.tenant, t.version, coalesce((select d.confirmed from deliveries d
      where d.sink = s.sink and d.sk = t.sk), t.version - 1) from told t cross join sinks s
-- end
-- when delivered
    union all select sink, sk, tenant, 0, version from confirmed
-- end
  ) x group by sink, sk, tenant order by sink, sk
  on conflict (sink, sk) do update set wanted = greatest(d.wanted, excluded.wanted),
    confirmed = greatest(d.confirmed, excluded.confirmed),
    turn = case when d.wanted > d.confirmed then d.turn else excluded.turn end),
-- Reports: to whoever listens, and of the last event to whoever begins to.
heard as materialized (
  select 0::bigint as sk, '' as of, 0::bigint as version, '' as body, 0 as u, 0 as o where false
-- when events
  union all select w.sk, t.of, t.version, t.report, t.u, 1000 from told t cross join lateral (
      select sk from watches w where w.rail = 'bursar' and w.key = t.of offset 0) w
   where (w.sk, t.of) not in (select sk, key from ended where rail = 'bursar')
-- end
-- when events and watches
  union all select b.sk, t.of, t.version, t.report, t.u, 1000 from told t join begun b on b.rail = 'bursar' and b.key = t.of
-- end
-- when watches
  union all select b.sk, b.key, e.version, e.report, b.u, b.o from begun b cross join lateral (
      select sk from subjects s where s.tenant = split_part(b.key, '/', 1) and s.kind = split_part(b.key, '/', 2)
       and s.id = substr(b.key, length(split_part(b.key, '/', 1)) + length(split_part(b.key, '/', 2)) + 3) offset 0) s
    cross join lateral (select version, report::text from events e where e.sk = s.sk order by version desc limit 1) e
   where b.rail = 'bursar'
-- end
  ),
-- New records, numbered in the order in which they landed: rollbacks, what was given, reports.
fresh as materialized (
  select f.*, row_number() over (partition by sk order by f.u, f.phase, f.o) as n from (
    select distinct on (sk, key) * from (
      select sk, u, 2 as phase, o, 'report/' || of || '/' || version as key, 'report' as type, null as essence,
        null as rail, null::bigint as position, null::int as branch, body from heard
-- when records
      union all select g.sk, g.u, 1, o, key, type, essence, rail, position, branch, body from given g join ok using (u)
-- end
-- when rollback
      union all select distinct r.sk, -1, 0, 0, a.key, 'rollback', null, null, null::bigint, null::int, a.body
        from moved a cross join lateral (select sk from records r
          where r.rail = a.rail and r.position > a.above and r.branch < a.branch offset 0) r
-- end
    ) g order by sk, key, u, phase, o) f
   where not exists (select from records r where r.sk = f.sk and r.key = f.key offset 0)),
-- Whatever makes a subject due raises its version. `phase`: -1 before it was written, 0 by its write, 1 after.
bumps as materialized (
  select sk, 0 as phase, 1 as k, false as slept from (
    select sk from ok where expect is not null union select sk from fresh where phase = 1) x
  union all select sk, case when phase = 0 then -1 else 1 end, 1, false from fresh where phase <> 1
  union all select sk, case when first then -1 else 1 end, 1, false from struck
-- when until
  union all select sk, case when first then 0 else 1 end, 1, first from sleeps where woken
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
  select b.*, ok.u, ok.until, ok.due, b.after > 0 as late, coalesce(ok.tenant, h.tenant) as tenant,
    coalesce(ok.was, h.version) as version, coalesce(ok.records, h.records) as records,
    coalesce(ok.serial, h.serial) as serial from (
    select sk, sum(k)::int as k, coalesce(sum(k) filter (where phase <= 0), 0) as returned,
      coalesce(sum(k) filter (where phase = 1), 0) + coalesce(sum(k) filter (where slept), 0) as after,
      sum(landed)::int as landed, bool_or(lost) as lost
    from (select sk, phase, k, slept, 0 as landed, false as lost from bumps
      union all select sk, 1, 0, false, 1, false from fresh
      union all select sk, 1, 0, false, 0, false from ok
      union all select sk, 1, 0, false, 0, true from refused where what = 'version') x group by sk) b
  left join ok using (sk)
  left join lateral (select * from heads h where h.sk = b.sk and ok.sk is null offset 0) h on true),
born as materialized (
  select sk, nextval('serials') as serial from (select sk from touched where serial is null and k > 0 order by u) x),
heads_out as (update heads h set version = h.version + t.k, records = h.records + t.landed,
    due = case when t.until then case when t.late then least(t.due, %(now)s) else t.due end
      when t.k > 0 then least(h.due, %(now)s) else h.due end,
    lease = case when t.until or t.lost then 0 else h.lease end, serial = coalesce(h.serial, b.serial)
  from touched t left join born b using (sk)
  where h.sk = any(array(select sk from touched)) and h.sk = t.sk and (t.k > 0 or t.until or t.lost)),
records_out as (insert into records (sk, n, tenant, version, key, type, essence, rail, position, branch, body)
  select sk, t.records + f.n, t.tenant, t.version + t.k, f.key, f.type, f.essence, f.rail, f.position, f.branch, f.body::json
    from fresh f join touched t using (sk)),
-- when transfers
transfers_out as (insert into transfers (sk, version, n, tenant, posting, account, asset, minor)
  select sk, t.version + t.returned, l.o, l.tenant, l.posting, l.account, l.asset, l.minor
    from lines l join ok using (u, sk) join touched t using (sk)),
-- end
statuses_out as (insert into statuses as t (sk, tenant, kind, serial, state, mover, body)
  select ok.sk, ok.tenant, ok.kind, coalesce(ok.serial, b.serial), ok.state, ok.mover, ok.status::json
    from ok left join born b using (sk) where ok.status is not null
     and not exists (select from statuses t where t.sk = ok.sk and t.body::text = ok.status offset 0)
  on conflict (sk) do update set state = excluded.state, mover = excluded.mover, body = excluded.body),
-- when names
naming as materialized (
  select g.tenant, g.kind, g.value, g.sk, bool_or(g.is_unique) as is_unique from called g join ok using (u) group by 1, 2, 3, 4),
named as (insert into names (tenant, kind, value, sk, is_unique)
  select * from naming n where not exists (select from names x where (x.tenant, x.kind, x.value, x.sk, x.is_unique)
     = (n.tenant, n.kind, n.value, n.sk, n.is_unique) offset 0) order by 1, 2, 3, 4
  on conflict (tenant, kind, value, sk) do update set is_unique = excluded.is_unique),
-- end
unnamed as (delete from names x where x.sk = any(array(select sk from ok where status is not null))
-- when names
   and (x.sk, x.kind, x.value) not in (select sk, kind, value from naming)
-- end
  )
select coalesce(json_agg(json_build_array(c, what, subject, version, account, asset, need)), '[]')::text from (
  select r.c, r.what, (select json_build_object('tenant', w.tenant, 'kind', w.kind, 'id', w.id)
    from w where w.u = r.u and r.rank = 1) as subject, 0::bigint as version, r.account, r.asset, r.need from refused r
  union all select * from (
    select distinct on (ok.c) ok.c, '', null::json, ok.was + t.returned, '', '', 0
      from ok join touched t using (sk) order by ok.c, ok.u desc) x) y
