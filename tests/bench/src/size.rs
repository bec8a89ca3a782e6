//! How much is measured, and how it is told.

/// How much, and how it is told.
#[derive(clap::Args)]
pub struct Size {
    /// A fiftieth of everything.
    #[arg(long)]
    pub quick: bool,
    /// Records that are held; a million by default, or as many as the benchmark says.
    #[arg(long)]
    pub records: Option<usize>,
    /// One JSON object per line instead of a table.
    #[arg(long)]
    pub json: bool,
}

impl Size {
    /// How many records are held.
    pub fn records(&self) -> usize {
        self.records.unwrap_or(if self.quick { 20_000 } else { 1_000_000 })
    }

    /// Prints a result.
    pub fn show(&self, result: &serde_json::Value) {
        if self.json {
            println!("{result}");
            return;
        }
        let fields = result.as_object().into_iter().flatten();
        let line: Vec<_> = fields.map(|(name, value)| format!("{name} {value}")).collect();
        println!("{}", line.join(", "));
    }

    /// As it was given on the command line.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        arguments.extend(self.quick.then(|| "--quick".to_owned()));
        arguments.extend(self.records.iter().flat_map(|n| ["--records".to_owned(), n.to_string()]));
        arguments.extend(self.json.then(|| "--json".to_owned()));
        arguments
    }
}
