//! What is done about damaged Parquet files, at which the library may panic.
//!
//! A panic ends the process. So pages are looked at before they are decoded, and where the library panics all the same, [`damaged`] tells
//! the program's panic hook which file it is: it ends with an error that names the file, as any other that can't be read does.

use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::RowGroupReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use std::cell::RefCell;

thread_local! {
    /// The file that this thread reads.
    static CURRENT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs what may panic at a damaged file, whose name [`damaged`] then returns.
pub fn blamed_on<T>(location: &str, work: impl FnOnce() -> T) -> T {
    CURRENT.set(Some(location.into()));
    let done = work();
    CURRENT.set(None);
    done
}

/// The damaged file that this thread panics at, if it does.
pub fn damaged() -> Option<String> {
    CURRENT.take()
}

/// A row group whose pages are looked at.
pub struct SoundGroup<'g>(pub Box<dyn RowGroupReader + 'g>);

impl RowGroupReader for SoundGroup<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.0.metadata()
    }

    fn num_columns(&self) -> usize {
        self.0.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>> {
        Ok(Box::new(SoundPages { pages: self.0.get_column_page_reader(column)?, dictionary: false }))
    }

    fn get_column_bloom_filter(&self, column: usize) -> Option<&Sbbf> {
        self.0.get_column_bloom_filter(column)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        self.0.get_row_iter(projection)
    }
}

struct SoundPages {
    pages: Box<dyn PageReader>,
    /// There was a dictionary.
    dictionary: bool,
}

impl SoundPages {
    fn checked(&mut self, page: Page) -> Result<Page> {
        let wrong = |why: &str| Err(ParquetError::General(why.into()));
        match &page {
            Page::DictionaryPage { .. } if self.dictionary => return wrong("a column has two dictionaries"),
            Page::DictionaryPage { .. } => self.dictionary = true,
            Page::DataPage { encoding: Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, .. }
            | Page::DataPageV2 { encoding: Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, .. }
                if !self.dictionary =>
            {
                return wrong("a page refers to a dictionary that is not there");
            }
            Page::DataPage { .. } | Page::DataPageV2 { .. } => {}
        }
        Ok(page)
    }
}

impl Iterator for SoundPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for SoundPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.checked(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}
