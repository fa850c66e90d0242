-- What passed of late, for each limit: a ring of 61 slots of a sixtieth of its window each, so that
-- any window of that length lies in the ring, and what is in the ring never exceeds the limit.
-- Slot number s (of its width, since 1970) stands at s % 61 + 1; `slot` is the newest one.
-- Not logged: after a crash of the server all limits begin anew. `key` is a hash, see windows.py.
CREATE UNLOGGED TABLE rate_limit_windows (
    key uuid PRIMARY KEY,
    slot bigint NOT NULL,
    total double precision NOT NULL,
    used double precision[] NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 60);
-- Whole minutes, so that few updates touch the index.
CREATE INDEX rate_limit_windows_expires_at ON rate_limit_windows (expires_at);

CREATE UNLOGGED TABLE rate_limit_places (
    key uuid NOT NULL,
    lease text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (key, lease)
);
CREATE INDEX rate_limit_places_until ON rate_limit_places (until);

-- The ring with `amount` more in slot `now`, and what is older than it left behind.
CREATE FUNCTION rate_limit_moved(
    used double precision[], newest bigint, now bigint, amount double precision
) RETURNS double precision[] LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF now - newest >= 61 THEN
        used := array_fill(0::double precision, ARRAY[61]);
    ELSE
        FOR later IN 1 .. (now - newest)::integer LOOP
            used[(newest + later) % 61 + 1] := 0;
        END LOOP;
    END IF;
    used[now % 61 + 1] := used[now % 61 + 1] + amount;
    RETURN used;
END $$;

-- Seconds until `cost` fits into `amount`, as far as is known now; the whole window where it never
-- does.
CREATE FUNCTION rate_limit_wait(
    used double precision[], newest bigint, now bigint, width double precision,
    moment double precision, total double precision, amount double precision, cost double precision
) RETURNS double precision LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    slot bigint;
BEGIN
    IF cost > amount OR amount <= 0 THEN
        RETURN 60 * width;
    END IF;
    FOR age IN REVERSE 60 .. 1 LOOP
        slot := now - age;
        IF slot > newest - 61 AND slot <= newest THEN
            total := total - used[slot % 61 + 1];
            IF total + cost <= amount AND total < amount THEN
                RETURN greatest((slot + 61) * width - moment, 0.001);
            END IF;
        END IF;
    END LOOP;
    RETURN greatest((now + 61) * width - moment, 0.001);
END $$;

-- Calls in groups that want the same of the same limits; a group's entries follow one another.
-- Answers for each group how many of the `wanted` pass, which of its entries (from 1) refuses the
-- next, and the seconds until that one may allow it. One pass over the keys in their order locks
-- them all, so that two of these wait for each other and never both.
CREATE FUNCTION rate_limit_take(
    keys uuid[], widths double precision[], wanted integer[],
    entry_group integer[], entry_key integer[],
    entry_amount double precision[], entry_cost double precision[]
) RETURNS TABLE (passed integer, refused integer, wait double precision) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    moment double precision;
    slots bigint[] := array_fill(0::bigint, ARRAY[cardinality(keys)]);
    totals double precision[] := array_fill(0::double precision, ARRAY[cardinality(keys)]);
    added double precision[] := totals;
    entry integer := 1;
    first integer;
    possible integer;
    room double precision;
    k integer;
    kept record;
BEGIN
    INSERT INTO rate_limit_windows AS w (key, slot, total, used, expires_at)
        SELECT each, 0, 0, array_fill(0::double precision, ARRAY[61]), now()
        FROM unnest(keys) AS each
        ON CONFLICT (key) DO UPDATE SET slot = w.slot WHERE false;
    moment := extract(epoch FROM clock_timestamp());
    FOR kept IN
        SELECT each.n, w.slot, w.total, w.used
        FROM unnest(keys) WITH ORDINALITY AS each (key, n)
        JOIN rate_limit_windows AS w ON w.key = each.key
    LOOP
        k := kept.n;
        slots[k] := greatest(kept.slot, floor(moment / widths[k])::bigint);
        totals[k] := kept.total;
        IF slots[k] - kept.slot >= 61 THEN
            totals[k] := 0;
        ELSE
            FOR later IN 1 .. (slots[k] - kept.slot)::integer LOOP
                totals[k] := totals[k] - kept.used[(kept.slot - 61 + later) % 61 + 1];
            END LOOP;
        END IF;
    END LOOP;
    FOR g IN 1 .. cardinality(wanted) LOOP
        first := entry;
        passed := wanted[g];
        refused := 0;
        wait := 0;
        WHILE entry_group[entry] = g LOOP
            room := entry_amount[entry] - totals[entry_key[entry]];
            IF room <= 0 THEN
                possible := 0;
            ELSIF entry_cost[entry] > 0 THEN
                possible := least(passed, floor(room / entry_cost[entry]));
            ELSE
                possible := passed;
            END IF;
            IF possible < passed THEN
                passed := possible;
                refused := entry - first + 1;
            END IF;
            entry := entry + 1;
        END LOOP;
        IF passed > 0 THEN
            FOR e IN first .. entry - 1 LOOP
                k := entry_key[e];
                totals[k] := totals[k] + passed * entry_cost[e];
                added[k] := added[k] + passed * entry_cost[e];
            END LOOP;
        END IF;
        IF refused > 0 THEN
            k := entry_key[first + refused - 1];
            SELECT rate_limit_wait(
                w.used, w.slot, slots[k], widths[k], moment, totals[k],
                entry_amount[first + refused - 1], entry_cost[first + refused - 1]
            ) INTO wait FROM rate_limit_windows AS w WHERE w.key = keys[k];
        END IF;
        RETURN NEXT;
    END LOOP;
    FOR k IN 1 .. cardinality(keys) LOOP
        IF added[k] > 0 THEN
            UPDATE rate_limit_windows AS w SET
                used = rate_limit_moved(w.used, w.slot, slots[k], added[k]),
                slot = slots[k],
                total = totals[k],
                expires_at = date_trunc('minute', to_timestamp(moment + 61 * widths[k]))
                    + interval '1 minute'
            WHERE w.key = keys[k];
        END IF;
    END LOOP;
END $$;

-- A place for each, in order. `keys` that hash alike wait for each other, which harms nobody.
CREATE FUNCTION rate_limit_enter(
    keys uuid[], most integer[], leases text[], seconds double precision[]
) RETURNS TABLE (entered boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1381321811, each.number) FROM (
        SELECT DISTINCT hashtext(key::text) AS number FROM unnest(keys) AS key ORDER BY 1
    ) AS each;
    FOR n IN 1 .. cardinality(keys) LOOP
        DELETE FROM rate_limit_places AS p
            WHERE p.key = keys[n] AND (p.until <= clock_timestamp() OR p.lease = leases[n]);
        SELECT count(*) < most[n] INTO entered FROM rate_limit_places AS p WHERE p.key = keys[n];
        IF entered THEN
            INSERT INTO rate_limit_places (key, lease, until) VALUES (
                keys[n], leases[n], clock_timestamp() + make_interval(secs => seconds[n])
            );
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
