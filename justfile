# What people type here. `just` alone lists it.

_default:
    @just --list --unsorted

# The streaming word count, serving itself text.
demo:
    cargo run --release --example word_count

# All tests of the default members.
test *ARGS:
    cargo test {{ARGS}}

# Random programs on a disk that fails: `just sim 20000`, and `just sim 1 801` for one seed.
sim N='2000' FROM='0':
    MILLSTREAM_SIM={{N}} MILLSTREAM_SIM_FROM={{FROM}} cargo test --release -p millstream-testkit --test simulation -- --nocapture

# A durable program that is killed every three seconds, in real processes, and audited: `just soak 60`.
soak MINUTES='2' *ARGS:
    cargo run -p millstream-soak -- {{MINUTES}} {{ARGS}}

# A stream on a cluster whose executors are killed again and again, against the same without: `just soak-cluster 100`.
soak-cluster KILLS='100':
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 MILLSTREAM_KILLS={{KILLS}} \
        cargo test -p millstream-cluster --test all -- --nocapture killed::

# A stream on a cluster for so many batches, whose memory and disk must stay as they are: `just steady-cluster 10000`.
steady-cluster BATCHES='10000':
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 MILLSTREAM_BATCHES={{BATCHES}} \
        cargo test -p millstream-cluster --test all -- --nocapture flat::memory

# Statements on a stream for so many batches, whose memory must stay as it is: `just steady-sql 100000`.
steady-sql BATCHES='100000':
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 MILLSTREAM_BATCHES={{BATCHES}} \
        cargo test -p millstream-sql --test all -- --nocapture flat::memory

# The tests that need a server that speaks S3, beside one (needs Python).
s3:
    .ci/with-s3 cargo test -p millstream-object-store --features server-tests --test s3

# The tests that need a broker of Kafka, beside one (needs Java, Maven and Python).
kafka *ARGS:
    .ci/with-kafka cargo test -p millstream-kafka --features broker-tests --test broker --test brokers {{ARGS}}

# Kafka on a cluster: receivers whose executors are killed, and where partitions are read. Builds DataFusion.
kafka-cluster *ARGS:
    CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 \
        .ci/with-kafka cargo test -p millstream-cluster -p millstream-sql -p millstream-sql-live -p millstream \
        --features millstream/broker-tests --test kafka_on_cluster {{ARGS}}

# A program from Kafka to Kafka that is killed again and again, and audited: `just soak-kafka 60`.
soak-kafka MINUTES='10' SEED='1':
    .ci/with-kafka cargo run -p millstream-kafka --features broker-tests --example soak_kafka -- minutes {{MINUTES}} {{SEED}}

# A fuzzer, or all: `just fuzz log_frames 600` (fuzz/README.md).
fuzz TARGET SECONDS *ARGS:
    fuzz/run {{TARGET}} {{SECONDS}} {{ARGS}}

# What CI runs.
check:
    bash .ci/run

# Formats all code.
fmt:
    cargo fmt --all

# Clippy, without mercy.
lint:
    cargo clippy --workspace --exclude millstream-cluster --exclude millstream-sql --exclude millstream-sql-live --all-targets -- -D warnings

# The house rules: files, names, doors.
tidy:
    cargo xtask tidy

# Makes docs/parity.md from docs/parity.toml.
parity:
    cargo xtask parity

# The public documentation, opened in a browser.
doc:
    cargo doc --workspace --exclude millstream-cluster --exclude millstream-sql --exclude millstream-sql-live --no-deps --open

# One workload on our engine and the hand-written loop: `just bench wordcount text.txt`.
bench WORKLOAD FILE *ARGS:
    cargo run --release -p millstream-bench -- {{WORKLOAD}} {{FILE}} --threads 2 --batches 8 {{ARGS}}

# The same beside Spark 4.1, in one table (docs/benchmarks.md says how to get Spark); `kafka` is one, too.
vs-spark WORKLOAD *ARGS:
    cargo xtask vs-spark {{WORKLOAD}} {{ARGS}}

# Asks real Spark 4.1 what its operations mean, for crates/testkit/tests/spark.rs (docs/benchmarks.md says how to get Spark).
record-spark *ARGS:
    cargo xtask record-spark {{ARGS}}

# Asks real Spark SQL 4.1 its statements, for crates/testkit/spark/sql.
record-spark-sql:
    cargo xtask record-spark-sql

# Micro-benchmarks of the hot paths.
micro *ARGS:
    cargo bench -p millstream-bench --bench hot_paths -- {{ARGS}}

# The files that hold `unsafe`, under Miri (needs a nightly toolchain with the component).
miri:
    cargo +nightly miri test -p millstream-core --lib text::

# Licences and sources of all dependencies (needs cargo-deny).
deny:
    cargo deny check

# The crate of clusters: lints and tests, with the tables of the other crates on two executors. The first time it builds DataFusion.
cluster:
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 \
    RUSTC_WORKSPACE_WRAPPER="$(rustc --print sysroot)/bin/clippy-driver" CLIPPY_ARGS="-Dwarnings__CLIPPY_HACKERY__" \
    cargo test -p millstream-cluster --lib --test all

# The crate of SQL: lints and tests, those of buckets beside a server that speaks S3. The first time it builds DataFusion.
sql *ARGS:
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 \
    RUSTC_WORKSPACE_WRAPPER="$(rustc --print sysroot)/bin/clippy-driver" CLIPPY_ARGS="-Dwarnings__CLIPPY_HACKERY__" \
    .ci/with-s3 cargo test -p millstream-sql -p millstream-sql-live --features millstream-sql/server-tests --lib --test all {{ARGS}}
