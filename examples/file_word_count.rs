//! Counts the words of files that appear in a folder. (Spark's HdfsWordCount.)
//!
//! ```text
//! cargo run --release --example file_word_count -- FOLDER
//! ```
//!
//! Move text files into FOLDER while it runs. Without FOLDER it makes one, and puts a file into it itself.

use std::path::PathBuf;

use millstream::prelude::*;

fn main() -> Result<()> {
    let ssc = StreamingContext::new("local[2]", "file word count", millis(500))?;
    let given = std::env::args().nth(1).map(PathBuf::from);
    let folder = given.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("words-{}", std::process::id())));
    std::fs::create_dir_all(&folder)?;

    let words = ssc.text_file_stream(&folder).flat_map(|line| line.split_whitespace());
    words.map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b).print();
    ssc.start()?;
    if given.is_some() {
        ssc.stop_on_signals()?;
        return ssc.await_termination();
    }
    // Written elsewhere and moved in, so that the stream sees it whole.
    let draft = folder.with_extension("draft");
    std::fs::write(&draft, "to be or\nnot to be\n")?;
    std::fs::rename(&draft, folder.join("hamlet.txt"))?;
    ssc.await_termination_or_timeout(millis(1600))?;
    ssc.stop_gracefully()?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
