-- Named queries. They store, page by key, claim and compare versions; they decide nothing. One statement is one snapshot.
-- A limit stands as a literal (:limit): a generic plan takes a parameter for a tenth of the table, and sorts it.
-- `offset 0` and `any(array(…))`: a lookup a row, by index, whatever the statistics say.

-- name: claim
-- One ordered index walk; who is leased is stepped over. The only query that asks the database for the time.
with t as materialized (select coalesce(%(now)s::bigint, (extract(epoch from now()) * 1000000)::bigint) as now),
ready as materialized (
  select h.sk, h.due from heads h where h.due <= (select now from t) and h.lease <= (select now from t)
   order by h.due, h.sk limit :limit for update skip locked),
leased as (update heads h set lease = (select now from t) + %(lease)s where h.sk = any(array(select sk from ready)))
select json_build_array(t.now, (
  select json_agg(json_build_object('tenant', s.tenant, 'kind', s.kind, 'id', s.id) order by r.due, r.sk)
    from ready r cross join lateral (select * from subjects s where s.sk = r.sk offset 0) s))::text from t

-- name: load
-- A document a subject, in the order asked. A rail is shown when no watch of the subject on it waits to be covered.
select coalesce(json_agg(x.doc order by x.o), '[]')::text from (
  select i.o, json_build_array(coalesce(h.version, 0),
    coalesce((select json_agg(r.body order by r.n) from records r where r.sk = h.sk), '[]'),
    (select t.body from statuses t where t.sk = h.sk),
    coalesce((select json_object_agg(w.rail, json_build_object('position', coalesce(w.position, 0),
        'trail', coalesce(w.trail, '{}'), 'branch', coalesce(w.branch, 0), 'watermark', coalesce(w.watermark, 0),
        'watched', coalesce(w.watched, 0)))
      from (select w.rail, c.position, c.trail, c.branch, c.watermark, c.watched
        from watches w left join cursors c using (rail) where w.sk = h.sk and w.rail <> 'bursar' and not w.ended
        group by w.rail, c.rail
        having bool_and(w.since = -1 or w.scanned and w.version <= coalesce(c.watched, 0))) w), '{}')) as doc
  from json_to_recordset(%(subjects)s::json) as i(o int, tenant text, kind text, id text)
  left join lateral (select sk from subjects s where (s.tenant, s.kind, s.id) = (i.tenant, i.kind, i.id) offset 0) s on true
  left join lateral (select h.sk, h.version from heads h where h.sk = s.sk offset 0) h on true) x

-- name: assignment
select json_build_object(
  'cursor', coalesce((select json_build_object('position', position, 'trail', trail, 'branch', branch, 'watermark', watermark,
    'watched', watched) from cursors where rail = %(rail)s), '{}'),
  'version', coalesce((select version from watch_sets where rail = %(rail)s), 0),
  'changed', coalesce((select json_agg(json_build_object(
      'subject', json_build_object('tenant', s.tenant, 'kind', s.kind, 'id', s.id),
      'watch', json_build_object('rail', w.rail, 'key', w.key, 'since', w.since),
      'version', w.version, 'scanned', w.scanned, 'ended', w.ended) order by w.version)
    from watches w cross join lateral (select tenant, kind, id from subjects s where s.sk = w.sk limit 1) s
    where w.rail = %(rail)s and w.version > 0 and w.version > %(known)s::bigint  -- > 0: the index leaves out what is not
      and (%(known)s::bigint > 0 or not w.ended)),
  '[]'))::text

-- name: begin
-- Held alone against whoever writes events: a sink without a row for a subject is owed the next event of it.
with s as (insert into sinks (sink) values (%(sink)s) on conflict do nothing returning sink),
owed as (insert into deliveries (sink, sk, tenant, wanted, confirmed, turn)
  select sink, sk, tenant, wanted, 0, nextval('turns') from s, (
    select e.sk, e.tenant, max(e.version) as wanted from events e join heads h using (sk)
     group by e.sk, e.tenant, h.serial order by h.serial) x where %(whole)s
  on conflict (sink, sk) do update set wanted = excluded.wanted, turn = excluded.turn)
select count(*)::text from s

-- name: undelivered
with owed as materialized (
  select sk, turn, confirmed from deliveries where sink = %(sink)s and wanted > confirmed order by turn limit :limit
     for update skip locked),
tried as (update deliveries d set turn = nextval('turns')
  where d.sink = %(sink)s and d.sk = any(array(select sk from owed)))
select coalesce(json_agg(e.body order by o.turn), '[]')::text from owed o cross join lateral (
  select body from events where sk = o.sk and version > o.confirmed order by version limit 1) e

-- name: number
-- Under a lock of its own: the next one numbers only after this is committed. Ten times what one read returns.
with taken as (delete from unnumbered where id = any(array(select id from unnumbered order by id limit 10000))
  returning id, tenant, sk, version)
insert into numbered (number, tenant, sk, version)
select nextval('numbers'), tenant, sk, version from (select * from taken order by id) x

-- name: events
select coalesce(json_agg(json_build_array(x.number, e.body) order by x.number), '[]')::text from (
  select number, sk, version from numbered where tenant = %(tenant)s and number > %(after)s
   order by number limit :limit) x cross join lateral (
  select body from events e where e.sk = x.sk and e.version = x.version offset 0) e

-- name: told
select coalesce(json_agg(x.body order by x.version), '[]')::text from (
  select e.version, e.body from subjects s join events e using (sk)
   where s.tenant = %(tenant)s and s.kind = %(kind)s and s.id = %(id)s and e.version > %(after)s
   order by e.version limit :limit) x

-- name: find
select coalesce(json_agg(json_build_object('tenant', s.tenant, 'kind', s.kind, 'id', s.id)
  order by s.kind, s.id), '[]')::text
  from names n cross join lateral (select * from subjects s where s.sk = n.sk offset 0) s where n.tenant = %(tenant)s and n.kind = %(kind)s and n.value = %(value)s

-- name: page
-- One index walk a mover.
select coalesce(json_agg(json_build_object('serial', p.serial, 'version', h.version, 'status', p.body, 'subject',
  json_build_object('tenant', s.tenant, 'kind', s.kind, 'id', s.id)) order by p.serial desc), '[]')::text
from (select x.* from unnest(%(movers)s::text[]) m cross join lateral (
    select t.sk, t.serial, t.body from statuses t where t.tenant = %(tenant)s and t.kind = %(kind)s and t.mover = m
       and t.serial < %(before)s order by t.serial desc limit :limit) x
  order by x.serial desc limit :limit) p
  cross join lateral (select * from subjects s where s.sk = p.sk offset 0) s
  cross join lateral (select version from heads h where h.sk = p.sk offset 0) h

-- name: cursors
select coalesce(json_object_agg(rail, json_build_object('position', position, 'trail', trail, 'branch', branch,
  'watermark', watermark, 'watched', watched)), '{}')::text from cursors

-- name: sums
select coalesce(json_agg(json_build_array(account, asset, minor)), '[]')::text from sums
 where tenant = %(tenant)s and account = any(%(accounts)s::text[])

-- name: resting
-- Who is neither dirty nor due, by key, and what its entries amount to.
select json_build_array(coalesce(max(x.sk), %(after)s), coalesce(json_agg(json_build_array(
    json_build_object('tenant', s.tenant, 'kind', s.kind, 'id', s.id), x.version,
    coalesce((select json_agg(json_build_array(account, asset, minor)) from (
      select account, asset, sum(minor) as minor from transfers t where t.sk = x.sk group by 1, 2) t), '[]'))
  order by x.sk), '[]'))::text
from (select sk, version from heads where sk > %(after)s and version > 0 and coalesce(due > %(now)s, true)
   order by sk limit :limit) x cross join lateral (select * from subjects s where s.sk = x.sk offset 0) s

-- name: faults
-- What can only be if something went wrong, in one snapshot.
with clocks as materialized (
  select 'position/' || rail as clock, position as value from cursors
  union all select 'watermark/' || rail, watermark from cursors
  union all select concat_ws('/', 'available', tenant, regexp_replace(account, '\.reserved$', ''), asset), sum(minor)
    from sums group by 1),
whole as materialized (select tenant, account, asset, sum(minor) as minor from transfers group by 1, 2, 3)
select coalesce(json_agg(json_build_array(what, place, said)), '[]')::text from (
  select 'sum' as what, concat_ws('/', tenant, account, asset) as place,
    format('its sum is %%s, its transfers amount to %%s', coalesce(s.minor, 0), coalesce(w.minor, 0)) as said
    from sums s full join whole w using (tenant, account, asset) where coalesce(s.minor, 0) <> coalesce(w.minor, 0)
  union all select 'entry', concat_ws('/', min(s.tenant), min(s.kind), min(s.id), t.version),
      format('it does not balance in %%s', t.asset)
    from transfers t join subjects s using (sk) group by t.sk, t.version, t.asset having sum(t.minor) <> 0
  union all select 'cursor', c.rail, format('it was matched against watch set %%s of %%s', c.watched, coalesce(s.version, 0))
    from cursors c left join watch_sets s using (rail) where c.watched > coalesce(s.version, 0)
  union all select 'watch', concat_ws('/', s.tenant, s.kind, s.id),
      format('its watch of %%s on %%s is number %%s of %%s', w.key, w.rail, w.version, coalesce(v.version, 0))
    from watches w join subjects s using (sk) left join watch_sets v using (rail) where w.version > coalesce(v.version, 0)
  union all select 'coverage', concat_ws('/', s.tenant, s.kind, s.id),
      format('its watch of %%s on %%s is covered, and nobody woke it', w.key, w.rail)
    from watches w join subjects s using (sk) join cursors c using (rail)
   where not w.covered and not w.ended and w.scanned and w.version <= c.watched
  union all select 'wake', concat_ws('/', s.tenant, s.kind, s.id), format('it sleeps through %%s %%s', w.clock, w.at)
    from wakes w join subjects s using (sk) join clocks c on c.clock = w.clock and w.at <= c.value) x
