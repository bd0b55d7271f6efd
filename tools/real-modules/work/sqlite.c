/* SQLite: some thousands of statements over tables, indices, triggers, views, windows, recursive queries, JSON, full text, functions
 * and collations of the host's, transactions that roll back, errors, a backup; all rows are hashed. */
#include "work.h"

#include <sqlite3.h>

const char unit[] = "statements";

/* The work is compiled with the library's flags. */
#ifndef SQLITE_THREADSAFE
#error "whether the library has locks is not said"
#endif

static struct {
    __typeof__(sqlite3_prepare_v2) *prepare;
    __typeof__(sqlite3_step) *step;
    __typeof__(sqlite3_finalize) *finalize;
    __typeof__(sqlite3_column_count) *columns;
    __typeof__(sqlite3_column_type) *type;
    __typeof__(sqlite3_column_blob) *blob;
    __typeof__(sqlite3_column_bytes) *bytes;
    __typeof__(sqlite3_column_double) *real;
    __typeof__(sqlite3_errmsg) *error;
    __typeof__(sqlite3_value_int64) *value;
    __typeof__(sqlite3_result_int64) *result;
    __typeof__(sqlite3_aggregate_context) *context;
} s;

static struct outcome outcome;

static void run(sqlite3 *db, const char *sql) {
    while (*sql) {
        sqlite3_stmt *statement;
        const char *rest;
        if (s.prepare(db, sql, -1, &statement, &rest) != SQLITE_OK) {
            outcome.hash = mix_string(outcome.hash, s.error(db));
            return;
        }
        sql = rest;
        if (!statement) continue;
        int status;
        while ((status = s.step(statement)) == SQLITE_ROW) {
            for (int i = 0; i < s.columns(statement); i++) {
                int type = s.type(statement, i);
                outcome.hash = mix_number(outcome.hash, (uint64_t)type);
                if (type == SQLITE_FLOAT) {
                    double value = s.real(statement, i);
                    outcome.hash = mix(outcome.hash, &value, sizeof value);
                } else if (type != SQLITE_NULL) {
                    const void *value = s.blob(statement, i);
                    outcome.hash = mix(outcome.hash, value, (size_t)s.bytes(statement, i));
                }
            }
        }
        if (status != SQLITE_DONE) outcome.hash = mix_string(outcome.hash, s.error(db));
        s.finalize(statement);
        outcome.count++;
    }
}

/* What the library calls in the host. */
static void twice(sqlite3_context *context, int count, sqlite3_value **values) {
    (void)count;
    s.result(context, 2 * s.value(values[0]));
}

static void sum_step(sqlite3_context *context, int count, sqlite3_value **values) {
    (void)count;
    *(sqlite3_int64 *)s.context(context, sizeof(sqlite3_int64)) += s.value(values[0]);
}

static void sum_final(sqlite3_context *context) {
    s.result(context, *(sqlite3_int64 *)s.context(context, sizeof(sqlite3_int64)));
}

static int backwards(void *unused, int left_length, const void *left, int right_length, const void *right) {
    (void)unused;
    int common = left_length < right_length ? left_length : right_length;
    int order = memcmp(right, left, (size_t)common);
    return order ? order : right_length - left_length;
}

static const char schema[] =
    "PRAGMA foreign_keys = on; PRAGMA recursive_triggers = on;"
    "CREATE TABLE town(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, founded REAL CHECK(founded > 0));"
    "CREATE TABLE person(id INTEGER PRIMARY KEY AUTOINCREMENT, town INTEGER REFERENCES town ON DELETE CASCADE, name TEXT,"
    " age INT, purse NUMERIC DEFAULT 10, picture BLOB, initial TEXT AS (substr(name, 1, 1)) STORED);"
    "CREATE TABLE log(at INTEGER PRIMARY KEY, what TEXT, before INT, after INT);"
    "CREATE INDEX by_age ON person(age, name DESC); CREATE INDEX rich ON person(purse) WHERE purse > 50;"
    "CREATE TABLE pairs(a, b, c, PRIMARY KEY(a, b)) WITHOUT ROWID;"
    "CREATE VIEW adults AS SELECT p.*, t.name AS town_name FROM person p JOIN town t ON t.id = p.town WHERE age >= 18;"
    "CREATE TRIGGER spent AFTER UPDATE OF purse ON person WHEN old.purse <> new.purse BEGIN"
    " INSERT INTO log(what, before, after) VALUES('purse of ' || new.id, old.purse, new.purse);"
    " SELECT CASE WHEN new.purse < 0 THEN RAISE(ABORT, 'nobody owes') END; END;"
    "CREATE TRIGGER adults_insert INSTEAD OF INSERT ON adults BEGIN"
    " INSERT INTO person(name, age, town) VALUES(new.name, max(18, new.age), new.town); END;"
    "CREATE VIRTUAL TABLE letters USING fts5(title, body, tokenize = 'porter');"
    "CREATE VIRTUAL TABLE places USING rtree(id, x0, x1, y0, y1);";

static const char *const questions[] = {
    "SELECT t.name, count(*), avg(age), total(purse), group_concat(p.name, '/') FROM town t LEFT JOIN person p ON p.town = t.id"
    " GROUP BY t.id HAVING count(*) > 2 ORDER BY 3 DESC, 1;",
    "SELECT name, age, rank() OVER (PARTITION BY town ORDER BY age DESC, id), sum(purse) OVER (ORDER BY id ROWS BETWEEN 3 PRECEDING"
    " AND CURRENT ROW), lag(name, 2, 'nobody') OVER (ORDER BY id), ntile(4) OVER (ORDER BY age, id) FROM person ORDER BY id;",
    "WITH RECURSIVE fib(n, a, b) AS (VALUES(1, 0, 1) UNION ALL SELECT n + 1, b, a + b FROM fib WHERE n < 60) SELECT * FROM fib;",
    "WITH RECURSIVE x(i, cx, cy, zx, zy, n) AS (SELECT 0, -1.5 + 0.1 * value, 0.3, 0.0, 0.0, 0 FROM json_each('[0,1,2,3,4,5,6,7,8,9]')"
    " UNION ALL SELECT i, cx, cy, zx * zx - zy * zy + cx, 2 * zx * zy + cy, n + 1 FROM x WHERE n < 30 AND zx * zx + zy * zy < 4)"
    " SELECT cx, max(n) FROM x GROUP BY cx;",
    "SELECT json_group_array(json_object('name', name, 'age', age)), json_group_object(id, purse) FROM person WHERE id % 9 = 0;",
    "SELECT key, value, type, path FROM json_tree('{\"a\":[1,2,{\"b\":null}],\"c\":{\"d\":\"e\",\"f\":1.5e3}}');",
    "SELECT json_extract(j, '$.a[2].b'), j -> '$.c', j ->> '$.c.d', json_patch(j, '{\"a\":null}'), json_remove(j, '$.c.f') FROM"
    " (SELECT '{\"a\":[1,2,{\"b\":7}],\"c\":{\"d\":\"e\",\"f\":1.5e3}}' AS j);",
    "SELECT rowid, highlight(letters, 1, '<', '>'), bm25(letters) FROM letters WHERE letters MATCH 'number NEAR(seven* dear, 5) OR title : fourth'"
    " ORDER BY rank, rowid;",
    "SELECT id FROM places WHERE x1 >= 20 AND x0 <= 40 AND y1 >= 30 AND y0 <= 35 ORDER BY id;",
    "SELECT a.name, b.name FROM person a, person b WHERE a.town = b.town AND a.age = b.age AND a.id < b.id ORDER BY a.id, b.id;",
    "SELECT name FROM person WHERE age IN (SELECT max(age) FROM person GROUP BY town) EXCEPT SELECT name FROM person WHERE purse > 90"
    " ORDER BY 1;",
    "SELECT printf('%08.3f|%-6s|%,d|%q', age / 7.0, name, id * 100003, 'it''s'), quote(picture), typeof(purse),"
    " unicode(name), upper(name) GLOB 'P*', instr(name, '1'), round(age / 3.0, 2) FROM person WHERE id < 40;",
    "SELECT date('2024-02-28', '+2 days'), strftime('%j %W %s', '2026-11-22 10:20:30'), julianday('2000-01-01'), time(86399, 'unixepoch');",
    "SELECT twice(id), (SELECT grand(age) FROM person) FROM person WHERE id <= 20; SELECT name FROM person ORDER BY name COLLATE backwards LIMIT 50;",
    "SELECT sqrt(age), pow(age, 1.5), ln(age + 1), sin(id) FROM person WHERE id < 30;",
    "EXPLAIN QUERY PLAN SELECT * FROM person WHERE age = 3 AND name > 'x' OR purse > 60;",
    "SELECT what, count(*), sum(after - before) FROM log GROUP BY what ORDER BY 2 DESC, 1 LIMIT 30;",
    "UPDATE person SET purse = -1 WHERE id = 5; INSERT INTO person(town) VALUES(1000); INSERT INTO town VALUES(1, 'again', 3);",
    "INSERT INTO pairs VALUES(1, 2, 3) ON CONFLICT(a, b) DO UPDATE SET c = c + excluded.c RETURNING *; SELECT * FROM nowhere; SELEKT;",
    "PRAGMA integrity_check; PRAGMA foreign_key_check; SELECT count(*), sum(length(picture)) FROM person;",
};

struct outcome work(lookup *find, const char *library, const char *scripts) {
    (void)library, (void)scripts;
    FIND(sqlite3_open); FIND(sqlite3_close); FIND(sqlite3_exec); FIND(sqlite3_bind_int64); FIND(sqlite3_bind_text);
    FIND(sqlite3_bind_blob); FIND(sqlite3_bind_double); FIND(sqlite3_reset); FIND(sqlite3_create_function);
    FIND(sqlite3_create_collation); FIND(sqlite3_libversion); FIND(sqlite3_backup_init); FIND(sqlite3_backup_step);
    FIND(sqlite3_backup_finish); FIND(sqlite3_memory_used); FIND(sqlite3_shutdown); FIND(sqlite3_threadsafe);
    FIND(sqlite3_changes);
    s.prepare = (__typeof__(s.prepare))find("sqlite3_prepare_v2");
    s.step = (__typeof__(s.step))find("sqlite3_step");
    s.finalize = (__typeof__(s.finalize))find("sqlite3_finalize");
    s.columns = (__typeof__(s.columns))find("sqlite3_column_count");
    s.type = (__typeof__(s.type))find("sqlite3_column_type");
    s.blob = (__typeof__(s.blob))find("sqlite3_column_blob");
    s.bytes = (__typeof__(s.bytes))find("sqlite3_column_bytes");
    s.real = (__typeof__(s.real))find("sqlite3_column_double");
    s.error = (__typeof__(s.error))find("sqlite3_errmsg");
    s.value = (__typeof__(s.value))find("sqlite3_value_int64");
    s.result = (__typeof__(s.result))find("sqlite3_result_int64");
    s.context = (__typeof__(s.context))find("sqlite3_aggregate_context");
    outcome = (struct outcome){mix_string(0, sqlite3_libversion_()), 0};
    CHECK(sqlite3_threadsafe_() == SQLITE_THREADSAFE);

    sqlite3 *db;
    CHECK(sqlite3_open_(":memory:", &db) == SQLITE_OK);
    CHECK(sqlite3_create_function_(db, "twice", 1, SQLITE_UTF8, 0, twice, 0, 0) == SQLITE_OK);
    CHECK(sqlite3_create_function_(db, "grand", 1, SQLITE_UTF8, 0, 0, sum_step, sum_final) == SQLITE_OK);
    CHECK(sqlite3_create_collation_(db, "backwards", SQLITE_UTF8, 0, backwards) == SQLITE_OK);
    char *why = 0;
    if (sqlite3_exec_(db, schema, 0, 0, &why) != SQLITE_OK) failed(why, 0, schema);

    char sql[512], name[64];
    uint32_t random = 7;
    for (int i = 1; i <= 40; i++) {
        snprintf(sql, sizeof sql, "INSERT INTO town(name, founded) VALUES('town %d', %d.5); INSERT INTO places VALUES(%d, %d, %d, %d, %d)",
                 i, 1000 + i, i, i, i + 5, 60 - i, 61 - i);
        run(db, sql);
        snprintf(sql, sizeof sql, "INSERT INTO letters VALUES('the %dth letter', 'dear friend, number %s is %d')", i,
                 i % 7 ? "whatever" : "seventy", i);
        run(db, sql);
    }
    sqlite3_stmt *insert;
    CHECK(s.prepare(db, "INSERT INTO person(town, name, age, purse, picture) VALUES(?, ?, ?, ?, ?)", -1, &insert, 0) == SQLITE_OK);
    run(db, "BEGIN");
    for (int i = 0; i < 1000; i++) {
        uint32_t number = next_random(&random);
        snprintf(name, sizeof name, "person %u", number % 10007);
        sqlite3_bind_int64_(insert, 1, 1 + number % 40);
        sqlite3_bind_text_(insert, 2, name, -1, SQLITE_TRANSIENT);
        sqlite3_bind_int64_(insert, 3, (number >> 8) % 90);
        sqlite3_bind_double_(insert, 4, (number >> 4) % 1000 / 8.0);
        sqlite3_bind_blob_(insert, 5, &number, number % 5, SQLITE_TRANSIENT);
        CHECK(s.step(insert) == SQLITE_DONE && sqlite3_reset_(insert) == SQLITE_OK);
        outcome.count++;
    }
    run(db, "COMMIT");
    s.finalize(insert);
    for (int i = 0; i < 1500; i++) {
        uint32_t number = next_random(&random) >> 8;
        switch (i % 6) {
        case 0: snprintf(sql, sizeof sql, "UPDATE person SET purse = purse + %u WHERE town = %u", number % 9, number % 40); break;
        case 1: snprintf(sql, sizeof sql, "SELECT * FROM adults WHERE town = %u AND age < %u ORDER BY id", number % 40, number % 60); break;
        case 2: snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO pairs VALUES(%u, %u, 'pair %u')", number % 50, number % 7, number); break;
        case 3: snprintf(sql, sizeof sql, "SAVEPOINT s; DELETE FROM person WHERE id = %u; SELECT count(*) FROM person; ROLLBACK TO s; RELEASE s", number % 900); break;
        case 4: snprintf(sql, sizeof sql, "SELECT count(*), min(name), max(purse) FROM person WHERE name LIKE '%%%u%%'", number % 100); break;
        default: snprintf(sql, sizeof sql, "INSERT INTO adults(name, age, town) VALUES('new %u', %u, %u)", number % 1000, number % 40, 1 + number % 40);
        }
        run(db, sql);
        outcome.hash = mix_number(outcome.hash, (uint64_t)sqlite3_changes_(db));
    }
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) run(db, questions[i]);
    run(db, "DELETE FROM town WHERE id > 30; ANALYZE; REINDEX; VACUUM; ALTER TABLE log ADD COLUMN more DEFAULT 'none';"
            "SELECT name, sql FROM sqlite_schema ORDER BY name; SELECT * FROM log WHERE at % 50 = 0");

    sqlite3 *other;
    CHECK(sqlite3_open_(":memory:", &other) == SQLITE_OK);
    sqlite3_backup *backup = sqlite3_backup_init_(other, "main", db, "main");
    CHECK(backup && sqlite3_backup_step_(backup, -1) == SQLITE_DONE && sqlite3_backup_finish_(backup) == SQLITE_OK);
    run(other, questions[0]);
    CHECK(sqlite3_close_(other) == SQLITE_OK && sqlite3_close_(db) == SQLITE_OK);
    CHECK(sqlite3_memory_used_() == 0 && sqlite3_shutdown_() == SQLITE_OK);
    return outcome;
}
