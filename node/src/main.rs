//! A trust's Lanyard node, and the operator's commands.

fn main() -> std::process::ExitCode {
    lanyard_node::main()
}
