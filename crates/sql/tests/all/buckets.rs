//! Tables of objects in a bucket: folders, patterns, columns in names, and objects that change, come and go; in memory, and on a server that speaks S3.

use std::future::Future;
use std::sync::Arc;

use millstream::object_store::object_store::memory::InMemory;
use millstream::object_store::object_store::path::Path;
use millstream::object_store::object_store::{ObjectStore, ObjectStoreExt as _};
use millstream::sql::{Files, SqlContext, SqlStreams as _};
use millstream::{Context, ErrorKind, secs};
use millstream_testkit::{StreamTest, batches};

use self::watched::Watched;

#[path = "../../../object-store/tests/common/watched.rs"]
mod watched;

/// The bucket that `.ci/with-s3` makes.
const BUCKET: &str = "s3://millstream/";

fn wait<T>(of: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(of)
}

fn put(store: &dyn ObjectStore, key: &str, bytes: impl Into<Vec<u8>>) {
    wait(store.put(&Path::from(key), bytes.into().into())).unwrap();
}

fn remove(store: &dyn ObjectStore, key: &str) {
    wait(store.delete(&Path::from(key))).unwrap();
}

fn context() -> (Context, SqlContext) {
    let context = Context::new("local[2]", "buckets").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    (context, sql)
}

/// How the files of an address are asked for: `memory` needs the store.
type Ask<'a> = &'a dyn Fn(Files) -> Files;

fn objects_are_tables_by_name_folder_and_pattern(store: &dyn ObjectStore, at: &str, ask: Ask<'_>) {
    let (_context, sql) = context();
    let place = |name: &str| format!("{at}/{name}");
    for (name, text) in [
        ("goods/1.csv", "id,price\n1,2\n"),
        ("goods/2.csv", "id,price\n2,2.5\n"),
        ("goods/_SUCCESS", ""),
        ("goods/.2.csv.crc", "crc"),
        ("goods/_temporary/3.csv", "id,price\n3,3\n"),
        ("goodsmore/4.csv", "id,price\n4,4\n"),
        ("days/day=2024-01-01/hour=3/a.json", "{\"k\": 1}\n{\"k\": 2}\n"),
        ("days/day=2024-01-02/hour=4/a.json", "{\"k\": 3}\n"),
        ("days/day=__HIVE_DEFAULT_PARTITION__/hour=5/a b.json", "{\"k\": 4}\n"),
    ] {
        put(store, &place(name), text);
    }
    let at = |name: &str| format!("{BUCKET}{}", place(name));
    for (path, want) in [
        ("goods", vec![1, 2]),
        ("goods/", vec![1, 2]),
        ("goods/2.csv", vec![2]),
        ("goods/*1.csv", vec![1]),
        ("goods*/?.csv", vec![1, 2, 4]),
    ] {
        sql.register_files("goods", ask(Files::csv(at(path)))).unwrap();
        assert_eq!(sql.sql("SELECT id FROM goods ORDER BY id").unwrap().collect::<i64>().unwrap(), want, "{path}");
    }
    sql.register_files("events", ask(Files::json(at("days")))).unwrap();
    let statement = "SELECT k, day, hour FROM events WHERE hour > 3 OR k = 2 ORDER BY k";
    let rows = sql.sql(statement).unwrap().collect::<(i64, Option<String>, i64)>().unwrap();
    let day = |day: &str| Some(day.to_owned());
    assert_eq!(rows, [(2, day("2024-01-01"), 3), (3, day("2024-01-02"), 4), (4, None, 5)]);

    let parquet = {
        use datafusion::parquet::arrow::ArrowWriter;
        let columns = sql.sql("SELECT k, hour FROM events ORDER BY k").unwrap().to_columns().unwrap().remove(0);
        let mut writer = ArrowWriter::try_new(Vec::new(), columns.schema(), None).unwrap();
        writer.write(&columns).unwrap();
        writer.into_inner().unwrap()
    };
    put(store, &place("kept/a.parquet"), parquet);
    sql.register_files("kept", ask(Files::parquet(at("kept/*.parquet")))).unwrap();
    assert_eq!(sql.sql("SELECT sum(k * hour) FROM kept").unwrap().collect::<i64>().unwrap(), [3 + 6 + 12 + 20]);
    let avro = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/avro/deflate.avro")).unwrap();
    put(store, &place("pumps/a.avro"), avro);
    sql.register_files("pumps", ask(Files::avro(at("pumps")))).unwrap();
    assert_eq!(sql.sql("SELECT max(place.floor) FROM pumps").unwrap().collect::<i32>().unwrap(), [4]);

    for (files, want) in [
        (Files::csv(at("nothing")), "nothing cannot be read as a table: there are no files"),
        (Files::csv(at("goods/*.none")), "goods/*.none cannot be read as a table: there are no files"),
        (Files::csv(at("days/*/*/*.json")), "a.json cannot be read as a table: its columns are"),
        (Files::parquet(at("goods/1.csv")), "goods/1.csv cannot be read as a table: "),
        (Files::csv(at("goods/[")), "it is no pattern"),
    ] {
        let error = sql.register_files("t", ask(files)).unwrap_err();
        assert!(error.message().contains(want), "{error}");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}

fn a_table_is_read_again_where_an_object_changed(store: &dyn ObjectStore, at: &str, ask: Ask<'_>) {
    let key = |name: &str| format!("{at}/{name}");
    put(store, &key("a.csv"), "rate\n1\n");
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let files = ask(Files::csv(format!("{BUCKET}{at}"))).refreshed_every(secs(2));
    sql.register_files("rates", files).unwrap();
    let numbers = test.input(batches![[1i64], [1i64], [1i64], [1i64], [1i64], [1i64], [1i64], [1i64]]);
    let one = numbers.sql::<i64>(&sql, "n", "SELECT sum(value * rate) FROM n CROSS JOIN rates");
    let two = numbers.sql::<i64>(&sql, "n", "SELECT 10 * sum(value * rate) FROM n CROSS JOIN rates");
    let both = test.collect(&one.union(&two));
    test.run(1).unwrap();
    put(store, &key("a.csv"), "rate\n2\n");
    put(store, &key("b.csv"), "rate\n5\n");
    test.run(1).unwrap(); // not due
    test.run(1).unwrap(); // due
    put(store, &key("b.csv"), "rate\n7,8\n");
    test.run(2).unwrap(); // due, and torn: what was there stays
    let error = sql.refresh_error("rates").unwrap();
    assert!(error.message().contains("b.csv cannot be read as a table"), "{error}");
    remove(store, &key("b.csv"));
    test.run(1).unwrap(); // tried again
    assert!(sql.refresh_error("rates").is_none());
    put(store, &key("a.csv"), "rate\n4\n");
    sql.refresh_table("rates").unwrap();
    test.run(1).unwrap();
    sql.refresh_table("rates").unwrap(); // nothing has changed
    test.run(1).unwrap();
    let want = "1s 1 10\n2s 1 10\n3s 7 70\n4s 7 70\n5s 7 70\n6s 2 20\n7s 4 40\n8s 4 40";
    assert_eq!(both.table().to_string(), want);
}

#[test]
fn objects_in_memory_are_tables_by_name_folder_and_pattern() {
    let store = Arc::new(InMemory::new());
    let given = Arc::clone(&store);
    let ask = move |files: Files| files.in_store(Arc::clone(&given) as Arc<dyn ObjectStore>);
    objects_are_tables_by_name_folder_and_pattern(&*store, "some/tables", &ask);
}

#[test]
fn a_table_in_memory_is_read_again_where_an_object_changed() {
    let store = Arc::new(InMemory::new());
    let given = Arc::clone(&store);
    let ask = move |files: Files| files.in_store(Arc::clone(&given) as Arc<dyn ObjectStore>);
    a_table_is_read_again_where_an_object_changed(&*store, "rates", &ask);
}

#[test]
fn an_object_that_changes_between_listing_and_reading_is_told_and_read_the_next_time() {
    let (_context, sql) = context();
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    put(&*inner, "t/a.csv", "n\n1\n");
    put(&*inner, "t/b.csv", "n\n10\n");
    let late = Arc::clone(&inner);
    // Requests: the list, then the two objects. The second is another when it is read.
    let store = Watched::new(&inner, move |request| {
        if request == 3 {
            let put = async { late.put(&Path::from("t/b.csv"), "n\n20\n".into()).await };
            futures::executor::block_on(put).unwrap();
        }
    });
    let files = Files::csv("memory://bucket/t").in_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let error = sql.register_files("t", files.clone()).unwrap_err();
    let want = "memory://bucket/t/b.csv cannot be read as a table: it changed while it was read";
    assert!(error.message().starts_with(want) && error.kind() == ErrorKind::Data, "{error}");
    sql.register_files("t", files).unwrap();
    assert_eq!(sql.sql("SELECT sum(n) FROM t").unwrap().collect::<i64>().unwrap(), [21]);
}

#[test]
fn what_has_not_changed_is_not_read_again_and_keeps_its_version() {
    let (_context, sql) = context();
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    put(&*inner, "t/a.csv", "n\n1\n");
    put(&*inner, "t/b.csv", "n\n10\n");
    let store = Watched::new(&inner, |_| {});
    let files = Files::csv("memory://bucket/t").in_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
    sql.register_files("t", files).unwrap();
    assert_eq!(store.requests(), 3, "the list and two objects");
    sql.refresh_table("t").unwrap();
    assert_eq!(store.requests(), 4, "the list");
    // The same bytes again are another version: nobody has compared them.
    put(&*inner, "t/b.csv", "n\n10\n");
    sql.refresh_table("t").unwrap();
    assert_eq!(store.requests(), 7);
    assert_eq!(sql.sql("SELECT sum(n) FROM t").unwrap().collect::<i64>().unwrap(), [11]);
}

#[cfg(feature = "server-tests")]
mod server {
    //! The same against a server that speaks S3, by the environment alone, as a program has it: `.ci/with-s3` gives both.

    use millstream::object_store::object_store::aws::{AmazonS3, AmazonS3Builder};

    use super::*;

    fn store() -> AmazonS3 {
        std::env::var("MILLSTREAM_S3").expect("MILLSTREAM_S3 says where the server is");
        AmazonS3Builder::from_env().with_bucket_name("millstream").build().unwrap()
    }

    #[test]
    fn objects_on_a_server_are_tables_by_name_folder_and_pattern() {
        objects_are_tables_by_name_folder_and_pattern(&store(), "some/tables", &|files| files);
    }

    #[test]
    fn a_table_on_a_server_is_read_again_where_an_object_changed() {
        a_table_is_read_again_where_an_object_changed(&store(), "rates", &|files| files);
    }

    #[test]
    fn a_bucket_that_is_not_there_and_keys_in_an_address_are_told() {
        let (_context, sql) = context();
        let error = sql.register_csv("t", "s3://not-millstream/t/a.csv").unwrap_err();
        assert!(
            error.message().contains("could not be listed") || error.message().contains("there are no files"),
            "{error}"
        );
        let error = sql.register_csv("t", "s3://key:secret@bucket/t").unwrap_err();
        assert!(error.message().starts_with("an address of a bucket has no keys in it"), "{error}");
        assert!(!error.message().contains("secret@"), "{error}");
    }
}
