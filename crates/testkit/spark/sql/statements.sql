-- What Spark SQL is asked. A statement a line; one that ends in ORDER BY is answered in that order, others in any.

-- tables as they are
SELECT * FROM people ORDER BY name
SELECT * FROM sales ORDER BY id
SELECT * FROM words
SELECT * FROM nums
SELECT * FROM readings
SELECT * FROM kv ORDER BY k
SELECT * FROM lefts
SELECT * FROM rights
SELECT * FROM empty

-- select, filter, order
SELECT name FROM people WHERE age > 40 ORDER BY name
SELECT name FROM people WHERE age == 30
SELECT name FROM people WHERE age <> 30 ORDER BY name
SELECT name FROM people WHERE age != 30 AND city IS NOT NULL ORDER BY name
SELECT name FROM people WHERE age <=> NULL
SELECT name FROM people WHERE NOT (age > 40) ORDER BY name
SELECT name FROM people WHERE age BETWEEN 36 AND 41 ORDER BY name
SELECT name FROM people WHERE city IN ('London', 'Austin') ORDER BY name
SELECT name FROM people WHERE city NOT IN ('London', NULL) ORDER BY name
SELECT name FROM people WHERE name LIKE 'A%' ORDER BY name
SELECT name FROM people WHERE name ILIKE 'a%' ORDER BY name
SELECT name FROM people WHERE name RLIKE '^A' ORDER BY name
SELECT name FROM people WHERE name REGEXP 'a$' ORDER BY name
SELECT age FROM people ORDER BY age
SELECT age FROM people ORDER BY age DESC
SELECT age FROM people ORDER BY age ASC NULLS LAST
SELECT age FROM people ORDER BY age DESC NULLS FIRST
SELECT city, name FROM people ORDER BY city DESC, name
SELECT name FROM people ORDER BY name LIMIT 2
SELECT name FROM people ORDER BY name LIMIT 2 OFFSET 3
SELECT DISTINCT city FROM people ORDER BY city
SELECT NAME FROM People ORDER BY name LIMIT 1
SELECT `name` FROM `people` ORDER BY `name` LIMIT 1
SELECT p.name AS n FROM people AS p ORDER BY n LIMIT 1
SELECT people.name FROM people ORDER BY people.age LIMIT 1
SELECT sensorId, maxCelsius FROM readings ORDER BY at
SELECT MAXCELSIUS FROM readings ORDER BY at
SELECT sensorid AS SensorId FROM readings GROUP BY SENSORID ORDER BY sensorId
SELECT * EXCEPT (tags) FROM people ORDER BY name LIMIT 1
SELECT "text" AS x
SELECT 'it''s' AS a
SELECT 'tab\there' AS a, r'raw\n' AS b
SELECT 1 AS a UNION ALL SELECT 1
SELECT 1 AS a UNION SELECT 1
SELECT k FROM lefts INTERSECT SELECT k FROM rights ORDER BY k
SELECT k FROM lefts EXCEPT SELECT k FROM rights ORDER BY k
SELECT k FROM lefts MINUS SELECT k FROM rights ORDER BY k
SELECT * FROM VALUES (1, 'a'), (2, 'b') AS t(x, y) ORDER BY x
SELECT * FROM range(3) ORDER BY id
SELECT id FROM range(2, 10, 3) ORDER BY id
SELECT CASE WHEN age > 50 THEN 'old' WHEN age IS NULL THEN 'unknown' ELSE 'young' END AS c FROM people ORDER BY name
SELECT CASE city WHEN 'London' THEN 1 ELSE 0 END AS c FROM people ORDER BY name
WITH t AS (SELECT city, max(age) AS m FROM people GROUP BY city) SELECT p.name FROM people p JOIN t ON p.city = t.city AND p.age = t.m ORDER BY p.name
SELECT name FROM people WHERE age > (SELECT avg(age) FROM people) ORDER BY name
SELECT name FROM people p WHERE EXISTS (SELECT 1 FROM words w WHERE w.word = lower(p.name)) ORDER BY name
SELECT count(*) AS n FROM words WHERE word IN (SELECT name FROM people)
SELECT name FROM people WHERE age IS DISTINCT FROM 36 ORDER BY name
SELECT 1 IS TRUE AS a
SELECT (1 = 1) IS TRUE AS a, (NULL = 1) IS NOT TRUE AS b, (NULL = 1) IS UNKNOWN AS c
SELECT count(*) AS n FROM people TABLESAMPLE (100 PERCENT)
SELECT /*+ BROADCAST(b) */ count(*) AS n FROM people a JOIN people b ON a.city = b.city
SELECT name FROM people DISTRIBUTE BY city SORT BY name

-- arithmetic
SELECT 7 / 2 AS a, 7 DIV 2 AS b, 7 % 2 AS c, -7 % 3 AS d
SELECT -7 DIV 2 AS a, mod(-7, 3) AS b, pmod(-7, 3) AS c
SELECT 1 / 0 AS x
SELECT 1 % 0 AS x
SELECT 1.0 / 0 AS x
SELECT 1D / 0 AS x
SELECT 1 DIV 0 AS x
SELECT try_divide(1, 0) AS x, try_divide(6, 4) AS y
SELECT 2147483647 + 1 AS x
SELECT 9223372036854775807 + 1 AS x
SELECT CAST(127 AS TINYINT) + CAST(1 AS TINYINT) AS x
SELECT try_add(2147483647, 1) AS x, try_subtract(-2147483648, 1) AS y, try_multiply(2147483647, 2) AS z
SELECT 1.0 / 3 AS x, 1e0 / 3 AS y
SELECT 1.10 + 2.2 AS a, 1.10 * 2.2 AS b, 1.1 - 2 AS c
SELECT 0.1 + 0.2 AS a, 0.1D + 0.2D AS b
SELECT 5 / 2.0 AS a, 5 / 2D AS b, 5L / 2L AS c
SELECT -i AS a, +i AS b FROM nums WHERE i = 1000
SELECT abs(-5) AS a, sign(-2.5) AS b, signum(3) AS c, negative(4) AS d
SELECT round(2.5) AS a, round(-2.5) AS b, bround(2.5) AS c, ceil(1.2) AS d, floor(-1.2) AS e
SELECT round(1234.567, 1) AS a, round(1234.567, -2) AS b, round(2.675D, 2) AS c
SELECT ceil(-0.5D) AS a, floor(2.9D) AS b, ceiling(3) AS c
SELECT sqrt(16) AS a, cbrt(27) AS b, power(2, 10) AS c, pow(2, 0.5) AS d, exp(0) AS e
SELECT ln(1) AS a, log(10, 100) AS b, log10(1000) AS c, log2(8) AS d, log1p(0) AS e
SELECT ln(0) AS a, ln(-1) AS b, sqrt(-1) AS c
SELECT sin(0) AS a, cos(0) AS b, tan(0) AS c, degrees(0) AS d, radians(180) AS e, atan2(0, 1) AS f
SELECT 5 & 3 AS a, 5 | 3 AS b, 5 ^ 3 AS c, ~5 AS d
SELECT shiftleft(1, 4) AS a, shiftright(-16, 2) AS b, shiftrightunsigned(16, 2) AS c
SELECT greatest(1, NULL, 3) AS a, least(1, NULL, 3) AS b
SELECT factorial(5) AS a, hex(255) AS b, unhex('FF') AS c, bin(5) AS d, conv('100', 2, 10) AS e
SELECT width_bucket(5.3, 0.2, 10.6, 5) AS a, isnan(DOUBLE('NaN')) AS b, nanvl(DOUBLE('NaN'), 1D) AS c
SELECT i + l AS a, f + d AS b, m * 2 AS c FROM nums WHERE i = 1000
SELECT d FROM nums ORDER BY d
SELECT f FROM nums ORDER BY f DESC
SELECT DOUBLE('NaN') = DOUBLE('NaN') AS a, DOUBLE('NaN') > 1D AS b, -0.0D = 0.0D AS c
SELECT 1 = 1.0 AS a, '1' = 1 AS b, 1 < '2' AS c
SELECT 'a' = 1 AS a

-- casts
SELECT CAST('abc' AS INT) AS x
SELECT try_cast('abc' AS INT) AS x
SELECT CAST('3.7' AS INT) AS a
SELECT CAST(' 12 ' AS INT) AS a
SELECT CAST(3.7 AS INT) AS a, CAST(-3.7 AS INT) AS b, CAST(true AS INT) AS c, CAST(1 AS STRING) AS d
SELECT CAST(300 AS TINYINT) AS a
SELECT CAST(1e20 AS BIGINT) AS a
SELECT CAST('true' AS BOOLEAN) AS a, CAST('f' AS BOOLEAN) AS b, CAST(0 AS BOOLEAN) AS c, CAST('1' AS BOOLEAN) AS d
SELECT CAST('maybe' AS BOOLEAN) AS a
SELECT CAST(1.0 AS STRING) AS a, CAST(1D AS STRING) AS b, CAST(1e10 AS STRING) AS c, CAST(1.5e-7D AS STRING) AS d, CAST(123456789.0D AS STRING) AS e
SELECT CAST(CAST(0.1 AS FLOAT) AS STRING) AS a, CAST(CAST(0.1 AS FLOAT) AS DOUBLE) AS b
SELECT CAST(DATE'2024-02-29' AS STRING) AS a, CAST(TIMESTAMP'2024-02-29 10:00:00.5' AS STRING) AS b
SELECT CAST('2024-02-29' AS DATE) AS a, CAST('2024-2-9' AS DATE) AS b, CAST('2024' AS DATE) AS c
SELECT CAST('2024-02-30' AS DATE) AS a
SELECT CAST('2024-02-29 10:00' AS TIMESTAMP) AS a, CAST('2024-02-29T10:00:00Z' AS TIMESTAMP) AS b
SELECT CAST(TIMESTAMP'2024-02-29 10:00:00' AS DATE) AS a, CAST(DATE'2024-02-29' AS TIMESTAMP) AS b
SELECT CAST(0 AS TIMESTAMP) AS a, CAST(TIMESTAMP'1970-01-02 00:00:00' AS BIGINT) AS b
SELECT CAST('12.345' AS DECIMAL(4,1)) AS a, CAST(12.345 AS DECIMAL(10,2)) AS b
SELECT CAST(12345.6 AS DECIMAL(4,1)) AS a
SELECT CAST(array(1, 2) AS STRING) AS a, CAST(map('a', 1) AS STRING) AS b, CAST(named_struct('a', 1, 'b', NULL) AS STRING) AS c
SELECT CAST(NULL AS INT) AS a, CAST('' AS STRING) AS b
SELECT INT('5') AS a, STRING(5) AS b, DOUBLE('2.5') AS c, BIGINT(7) AS d
SELECT '5'::INT AS a, 3.9::INT AS b
SELECT typeof(1) AS a, typeof('a') AS b, typeof(1.5) AS c, typeof(array(1)) AS d, typeof(1L) AS e, typeof(1.5D) AS f, typeof(DATE'2024-01-01') AS g
SELECT i, CAST(i AS STRING) AS s FROM nums ORDER BY i
SELECT f, CAST(f AS STRING) AS s, d, CAST(d AS STRING) AS t FROM nums ORDER BY d

-- nulls
SELECT nvl(NULL, 0) AS a, ifnull(NULL, 1) AS b, nvl2(NULL, 1, 2) AS c, if(1 > 0, 'y', 'n') AS d, coalesce(NULL, 3) AS e, nullif(1, 1) AS f
SELECT NULL AND false AS a, NULL OR true AS b, NOT NULL AS c
SELECT isnull(NULL) AS a, isnotnull(NULL) AS b, zeroifnull(NULL) AS c, nullifzero(0) AS d
SELECT count(*) AS a, count(age) AS b, count(DISTINCT city) AS c, sum(age) AS d FROM people
SELECT concat('a', NULL) AS a, concat_ws('-', 'a', NULL, 'b') AS b, 'a' || 'b' AS c
SELECT NULL = NULL AS a, NULL <=> NULL AS b, 1 <=> NULL AS c
SELECT sum(v) AS s, count(v) AS c, max(v) AS m FROM (SELECT CAST(NULL AS INT) AS v)

-- grouping
SELECT word, count(*) AS total FROM words GROUP BY word ORDER BY word
SELECT city AS c, count(*) AS n FROM people GROUP BY c HAVING n > 1 ORDER BY n
SELECT city, count(*) FROM people GROUP BY 1 ORDER BY 1
SELECT city, count(*) AS n FROM people GROUP BY ALL ORDER BY city
SELECT city, count(*) AS n FROM people GROUP BY city WITH ROLLUP ORDER BY city NULLS FIRST, n
SELECT city, count(*) AS n FROM people GROUP BY ROLLUP(city) ORDER BY city NULLS FIRST, n
SELECT city, name, count(*) AS n FROM people GROUP BY CUBE(city, name) ORDER BY city, name, n
SELECT city, count(*) AS n FROM people GROUP BY GROUPING SETS ((city), ()) ORDER BY city NULLS FIRST, n
SELECT item, grouping(item) AS g, grouping_id() AS gi, sum(qty) AS q FROM sales GROUP BY ROLLUP(item) ORDER BY g, item
SELECT count(*) AS n FROM empty
SELECT k, count(*) AS n FROM empty GROUP BY k
SELECT sum(qty) AS s, avg(qty) AS a, min(qty) AS mi, max(qty) AS ma FROM sales
SELECT sum(price) AS s, avg(price) AS a, sum(price * qty) AS t FROM sales
SELECT item, sum(qty * price) AS total FROM sales GROUP BY item ORDER BY item
SELECT sum(DISTINCT qty) AS a, count(DISTINCT item, day) AS b FROM sales
SELECT count(*) FILTER (WHERE qty > 2) AS a, sum(qty) FILTER (WHERE item = 'pen') AS b FROM sales
SELECT stddev(age) AS a, variance(age) AS b, stddev_pop(age) AS c, var_pop(age) AS d FROM people
SELECT corr(age, age * 2) AS a, covar_pop(age, age) AS b, covar_samp(age, age) AS c FROM people
SELECT skewness(age) AS a, kurtosis(age) AS b FROM people
SELECT percentile(age, 0.5) AS a, percentile_approx(age, 0.5) AS b, median(age) AS c FROM people
SELECT approx_count_distinct(city) AS b FROM people
SELECT count_if(age > 30) AS a, bool_and(age > 1) AS b, every(age > 1) AS c, any(age > 80) AS d, some(age > 90) AS e FROM people
SELECT first(name) AS a, last(name) AS b FROM (SELECT name FROM people ORDER BY name)
SELECT max_by(name, age) AS a, min_by(name, age) AS b FROM people
SELECT city, sort_array(collect_list(name)) AS names FROM people GROUP BY city ORDER BY city
SELECT sort_array(collect_set(city)) AS cities FROM people
SELECT bit_and(i) AS a, bit_or(i) AS b, bit_xor(i) AS c FROM nums
SELECT mode(item) AS a FROM sales WHERE item = 'pen'
SELECT max(struct(qty, item)) AS a FROM sales WHERE qty < 5
SELECT any_value(item) AS a FROM sales WHERE item = 'cup'
SELECT array_agg(id) AS a FROM sales WHERE id = 1
SELECT listagg(item, ',') WITHIN GROUP (ORDER BY id) AS a FROM sales
SELECT sum(d) AS a, sum(f) AS b FROM nums WHERE i = 1000
SELECT max(d) AS a, min(d) AS b FROM nums
SELECT sum(l) AS a FROM nums WHERE l > 0
SELECT avg(m) AS a, sum(m) AS b FROM nums
SELECT * FROM (SELECT city, age FROM people) PIVOT (count(age) FOR city IN ('London', 'Austin'))
SELECT city, count(*) AS n FROM people WHERE age > 1000 GROUP BY city
SELECT name, count(*) FROM people

-- joins
SELECT l.v, r.w FROM lefts l JOIN rights r ON l.k = r.k ORDER BY v, w
SELECT l.v, r.w FROM lefts l LEFT JOIN rights r ON l.k = r.k ORDER BY v, w
SELECT l.v, r.w FROM lefts l RIGHT JOIN rights r ON l.k = r.k ORDER BY v, w
SELECT l.v, r.w FROM lefts l FULL OUTER JOIN rights r ON l.k = r.k ORDER BY v, w
SELECT v FROM lefts l LEFT SEMI JOIN rights r ON l.k = r.k ORDER BY v
SELECT v FROM lefts l LEFT ANTI JOIN rights r ON l.k = r.k ORDER BY v
SELECT v FROM lefts l SEMI JOIN rights r ON l.k = r.k ORDER BY v
SELECT l.v, r.w FROM lefts l JOIN rights r ON l.k <=> r.k ORDER BY v, w
SELECT * FROM lefts JOIN rights USING (k) ORDER BY v, w
SELECT * FROM lefts NATURAL JOIN rights ORDER BY v, w
SELECT count(*) AS n FROM lefts CROSS JOIN rights
SELECT count(*) AS n FROM lefts, rights
SELECT l.v, r.w FROM lefts l JOIN rights r ON l.k < r.k ORDER BY v, w
SELECT a.name, b.name AS other FROM people a JOIN people b ON a.city = b.city AND a.name < b.name ORDER BY a.name
SELECT k FROM lefts JOIN rights ON lefts.k = rights.k
SELECT s.item, w.word FROM sales s LEFT JOIN words w ON s.item = w.word ORDER BY s.id
SELECT p.name, t.x FROM people p, LATERAL (SELECT p.age + 1 AS x) t ORDER BY p.name

-- windows
SELECT name, row_number() OVER (PARTITION BY city ORDER BY age DESC) AS rn FROM people ORDER BY name
SELECT name, lag(age, 1) OVER (ORDER BY name) AS p, lead(age, 1, -1) OVER (ORDER BY name) AS n FROM people ORDER BY name
SELECT name, rank() OVER (ORDER BY city) AS r, dense_rank() OVER (ORDER BY city) AS d FROM people ORDER BY name
SELECT name, sum(age) OVER (ORDER BY name ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM people ORDER BY name
SELECT name, sum(age) OVER (ORDER BY name) AS s FROM people ORDER BY name
SELECT name, avg(age) OVER (PARTITION BY city) AS a FROM people ORDER BY name
SELECT id, ntile(3) OVER (ORDER BY id) AS n, percent_rank() OVER (ORDER BY id) AS p, cume_dist() OVER (ORDER BY id) AS c FROM sales ORDER BY id
SELECT id, first_value(item) OVER (ORDER BY id) AS f, last_value(item) OVER (ORDER BY id) AS l, nth_value(item, 2) OVER (ORDER BY id) AS n FROM sales ORDER BY id
SELECT id, sum(qty) OVER (ORDER BY day RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW) AS s FROM sales ORDER BY id
SELECT id, count(*) OVER w AS n FROM sales WINDOW w AS (PARTITION BY item ORDER BY id) ORDER BY id
SELECT name FROM people QUALIFY row_number() OVER (ORDER BY name) = 1
SELECT window.start AS s, window.end AS e, max(maxCelsius) AS m FROM readings GROUP BY window(at, '5 minutes') ORDER BY s
SELECT window.start AS s, count(*) AS n FROM readings GROUP BY window(at, '10 minutes', '5 minutes') ORDER BY s

-- dates and times
SELECT date_format(ts, 'yyyy-MM-dd HH:mm') AS d FROM sales ORDER BY id
SELECT date_format(TIMESTAMP'2024-02-29 03:04:05.678', 'dd/MM/yy hh:mm:ss.SSS a EEE EEEE MMM MMMM D') AS d
SELECT to_date('28/02/2024', 'dd/MM/yyyy') AS a, to_date('2024-02-28') AS b
SELECT to_date('nonsense') AS a
SELECT to_timestamp('2024-02-28 10:00:00') AS a, to_timestamp('28.02.2024 10', 'dd.MM.yyyy HH') AS b
SELECT unix_timestamp('1970-01-02 00:00:00') AS a, unix_timestamp('02/01/1970', 'dd/MM/yyyy') AS b
SELECT from_unixtime(0) AS a, from_unixtime(86400, 'yyyy/MM/dd') AS b
SELECT year(day) AS y, month(day) AS m, day(day) AS d, dayofmonth(day) AS e, dayofweek(day) AS w, dayofyear(day) AS dy, weekofyear(day) AS wk, quarter(day) AS q FROM sales ORDER BY id
SELECT hour(ts) AS h, minute(ts) AS m, second(ts) AS s FROM sales ORDER BY id
SELECT extract(YEAR FROM day) AS y, extract(DOW FROM day) AS d, extract(SECOND FROM ts) AS s FROM sales ORDER BY id
SELECT date_part('month', day) AS m, weekday(day) AS w FROM sales ORDER BY id
SELECT datediff('2024-03-01', '2024-02-01') AS a, date_add('2024-01-31', 1) AS b, date_sub('2024-03-01', 1) AS c
SELECT add_months('2024-01-31', 1) AS a, last_day('2024-02-03') AS b, next_day('2024-02-29', 'MON') AS c
SELECT months_between('2024-03-31', '2024-02-29') AS a, months_between('2024-03-15', '2024-02-29') AS b
SELECT date_trunc('HOUR', ts) AS a, trunc(day, 'MM') AS b FROM sales ORDER BY id
SELECT date_trunc('week', TIMESTAMP'2024-02-29 10:00:00') AS a, trunc(DATE'2024-02-29', 'year') AS b, trunc(DATE'2024-02-29', 'quarter') AS c
SELECT day + INTERVAL 1 DAY AS a, ts + INTERVAL 10 MINUTES AS b, ts - INTERVAL '1' MONTH AS c FROM sales ORDER BY id
SELECT DATE'2024-03-01' - DATE'2024-02-01' AS d
SELECT TIMESTAMP'2024-03-01 12:00:00' - TIMESTAMP'2024-02-29 10:30:00' AS d
SELECT day + 1 AS a, day - 1 AS b FROM sales WHERE id = 2
SELECT make_date(2024, 2, 29) AS a, make_timestamp(2024, 2, 29, 1, 2, 3.5) AS b
SELECT current_date() = current_date() AS a, current_timestamp() IS NOT NULL AS b, now() IS NOT NULL AS c
SELECT timestamp_millis(1500) AS a, timestamp_seconds(1.5) AS b, unix_millis(TIMESTAMP'1970-01-01 00:00:01.5') AS c, unix_date(DATE'1970-01-03') AS d
SELECT from_utc_timestamp('2024-07-01 12:00:00', 'Europe/Berlin') AS a, to_utc_timestamp('2024-07-01 12:00:00', 'Europe/Berlin') AS b
SELECT dateadd(DAY, 2, DATE'2024-02-28') AS a, timestampdiff(HOUR, TIMESTAMP'2024-02-28 00:00:00', TIMESTAMP'2024-02-29 01:30:00') AS b
SELECT day FROM sales WHERE day >= '2024-02-29' ORDER BY id
SELECT ts FROM sales WHERE ts < '2024-02-29' ORDER BY id
SELECT DATE'2024-02-29' = TIMESTAMP'2024-02-29 00:00:00' AS a, DATE'2024-02-29' < '2024-03-01' AS b
SELECT max(day) AS a, min(ts) AS b FROM sales
SELECT INTERVAL 90 MINUTES AS a, INTERVAL '1-2' YEAR TO MONTH AS b

-- texts
SELECT length('abc ') AS a, trim(' a ') AS b, ltrim('  a') AS c, rtrim('a  ') AS d, initcap('ab cd') AS e
SELECT lpad('a', 3, 'x') AS a, rpad('abc', 2, 'x') AS b, reverse('abc') AS c, repeat('ab', 2) AS d, lpad('7', 3) AS e
SELECT upper('aß') AS a, lower('ÄB') AS b, ucase('x') AS c, lcase('X') AS d
SELECT substring('spark', 0, 2) AS a, substr('spark', 2, 2) AS b, substring('spark', -3) AS c, substring('spark', 2) AS d, substring('spark' FROM 2 FOR 3) AS e
SELECT left('spark', 2) AS a, right('spark', 2) AS b, left('spark', -1) AS c
SELECT instr('spark', 'a') AS a, locate('r', 'spark') AS b, locate('a', 'banana', 3) AS c, position('k' IN 'spark') AS d
SELECT split('a,b,c', ',')[0] AS a, split('a1b22c', '[0-9]+') AS b, split('a,b,c', ',', 2) AS c, split_part('a.b.c', '.', 2) AS d
SELECT regexp_extract('a1b22', '([0-9]+)$', 1) AS a, regexp_replace('a1b2', '[0-9]', '') AS b, regexp_extract_all('a1b22', '([0-9]+)', 1) AS c
SELECT regexp_replace('hello', '(l+)', '<$1>') AS a, regexp_count('banana', 'a') AS b, regexp_like('abc', 'b') AS c
SELECT replace('abcabc', 'b', 'x') AS a, translate('abc', 'ab', '12') AS b, overlay('spark' PLACING 'X' FROM 2) AS c
SELECT ascii('A') AS a, chr(65) AS b, char(97) AS c, base64('a') AS d, CAST(unbase64('YQ==') AS STRING) AS e
SELECT md5('a') AS a, sha1('a') AS b, sha2('a', 256) AS c, crc32('a') AS d
SELECT hash('a') AS a, xxhash64('a') AS b, hash(1, 'b') AS c
SELECT format_number(1234567.891, 2) AS a, format_string('%s-%05d-%.2f', 'a', 42, 1.5D) AS b, printf('%x', 255) AS c
SELECT levenshtein('kitten', 'sitting') AS a, soundex('Robert') AS b
SELECT startswith('spark', 'sp') AS a, endswith('spark', 'rk') AS b, contains('spark', 'ar') AS c
SELECT concat('a', 1, true) AS a, 'a' || 1 AS b
SELECT char_length(word) AS c, octet_length(word) AS o, bit_length(word) AS b FROM words ORDER BY word
SELECT word FROM words WHERE word > 'b' ORDER BY word DESC
SELECT 'a' < 'B' AS a, 'Ä' > 'z' AS b
SELECT 'a%b' LIKE 'a\\%b' AS a, 'axb' LIKE 'a\\%b' AS b, 'a_b' LIKE 'a/_b' ESCAPE '/' AS c
SELECT elt(2, 'a', 'b') AS a, find_in_set('b', 'a,b,c') AS b, space(2) AS c, substring_index('a.b.c', '.', 2) AS d
SELECT get_json_object('{"a":{"b":1}}', '$.a.b') AS x, get_json_object('{"a":[1,2]}', '$.a[1]') AS y
SELECT from_json('{"a":1}', 'a INT').a AS x, to_json(named_struct('a', 1, 'b', 'x')) AS y
SELECT json_array_length('[1,2,3]') AS a, json_object_keys('{"a":1,"b":2}') AS b
SELECT parse_url('http://a.b/c?d=e', 'HOST') AS a, parse_url('http://a.b/c?d=e', 'QUERY', 'd') AS b, url_encode('a b') AS c
SELECT encode('ab', 'UTF-8') AS a, decode(encode('ab', 'UTF-8'), 'UTF-8') AS b, X'4142' AS c
SELECT rand(42) < 1 AS a, length(uuid()) AS b
SELECT btrim('xxaxx', 'x') AS a, trim(BOTH 'x' FROM 'xax') AS b, trim(LEADING 'x' FROM 'xax') AS c

-- arrays
SELECT array(10, 20, 30)[0] AS a, array(10, 20, 30)[2] AS b
SELECT array(10, 20, 30)[3] AS a
SELECT get(array(10, 20), 5) AS a, try_element_at(array(10, 20), 5) AS b
SELECT element_at(array(10, 20), 1) AS a, element_at(array(10, 20), -1) AS b
SELECT element_at(array(10, 20), 5) AS a
SELECT size(array(1, 2, 3)) AS a, size(NULL) AS b, cardinality(array()) AS c, array_size(array(1)) AS d
SELECT array_contains(array(1, 2), 2) AS a, array_contains(array(1, NULL), 2) AS b, array_position(array('a', 'b'), 'b') AS c
SELECT name, size(tags) AS n FROM people ORDER BY name
SELECT sort_array(array(3, 1, NULL, 2)) AS a, sort_array(array(3, 1, NULL, 2), false) AS b, array_sort(array(3, 1, NULL)) AS c
SELECT array_distinct(array(1, 1, 2)) AS a, array_union(array(1, 2), array(2, 3)) AS b, array_intersect(array(1, 2), array(2, 3)) AS c, array_except(array(1, 2), array(2)) AS d
SELECT array_join(array('a', NULL, 'b'), '-') AS a, array_join(array('a', NULL, 'b'), '-', '?') AS b, concat(array(1), array(2)) AS c
SELECT array_max(array(1, 3, 2)) AS a, array_min(array(1, 3, 2)) AS b, reverse(array(1, 2)) AS c, slice(array(1, 2, 3, 4), 2, 2) AS d
SELECT array_append(array(1), 2) AS a, array_prepend(array(1), 0) AS b, array_remove(array(1, 2, 1), 1) AS c, array_repeat('x', 3) AS d, array_insert(array(1, 3), 2, 2) AS e
SELECT flatten(array(array(1), array(2, 3))) AS a, sequence(1, 5, 2) AS b, arrays_overlap(array(1, 2), array(2)) AS c, array_compact(array(1, NULL)) AS d
SELECT sequence(DATE'2024-02-28', DATE'2024-03-01') AS a
SELECT transform(array(1, 2), x -> x + 1) AS a, filter(array(1, 2, 3), x -> x > 1) AS b
SELECT aggregate(array(1, 2, 3), 0, (acc, x) -> acc + x) AS a, exists(array(1, 2), x -> x > 1) AS b, forall(array(1, 2), x -> x > 1) AS c
SELECT explode(tags) AS tag FROM people
SELECT name, explode(tags) AS tag FROM people ORDER BY name, tag
SELECT name, explode_outer(tags) AS tag FROM people ORDER BY name, tag
SELECT name, posexplode(tags) AS (pos, tag) FROM people ORDER BY name, pos
SELECT name, tag FROM people LATERAL VIEW explode(tags) t AS tag ORDER BY name, tag
SELECT name, pos, tag FROM people LATERAL VIEW OUTER posexplode(tags) t AS pos, tag ORDER BY name, pos
SELECT tag, count(*) AS n FROM people LATERAL VIEW explode(tags) t AS tag GROUP BY tag ORDER BY tag
SELECT stack(2, 'a', 1, 'b', 2) AS (k, v)
SELECT inline(array(struct(1, 'a'), struct(2, 'b')))
SELECT arrays_zip(array(1, 2), array('a', 'b')) AS a

-- maps and structs
SELECT map('a', 1)['a'] AS a, map('a', 1)['b'] AS b, element_at(map('a', 1), 'a') AS c
SELECT k, m['one'] AS one, size(m) AS n FROM kv ORDER BY k
SELECT map_keys(m) AS ks, map_values(m) AS vs FROM kv WHERE k = 'x'
SELECT map_contains_key(map('a', 1), 'a') AS a, map_from_arrays(array('a'), array(1)) AS b, map_concat(map('a', 1), map('b', 2)) AS c, map_entries(map('a', 1)) AS d
SELECT k, explode(m) AS (key, value) FROM kv ORDER BY key
SELECT str_to_map('a:1,b:2') AS a
SELECT named_struct('a', 1).a AS x, struct(1, 2).col1 AS y
SELECT k, st.a AS a, st.b AS b FROM kv ORDER BY k
SELECT kv.st.b AS b FROM kv ORDER BY b
SELECT st.* FROM kv ORDER BY a, b
SELECT struct(1 AS a, 'x' AS b) AS s, named_struct('a', array(1, 2)) AS t
SELECT st, count(*) AS n FROM kv GROUP BY st ORDER BY n
SELECT transform_values(map('a', 1), (k, v) -> v + 1) AS a, map_filter(map('a', 1, 'b', 2), (k, v) -> v > 1) AS b

-- what is wrong
SELECT nme FROM people
SELECT * FROM peple
SELECT nosuch(1)
SELEC 1
SELECT name FROM people WHERE age
SELECT name + 1 AS x FROM people
SELECT sum(name) AS x FROM people
SELECT name FROM people GROUP BY city
SELECT * FROM lefts UNION SELECT k FROM rights
SELECT date_add('x', 1) AS a
