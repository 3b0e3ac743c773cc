//! What the tests share: three databases under one trait, tables of a test's own, an application
//! whose handlers do what a request says, and a wire that can be cut.

pub mod database;
pub mod scene;
pub mod server;
pub mod stage;
pub mod wire;

pub use database::Database;
pub use scene::{Scene, skip};
pub use server::{Reply, Server, reply};

/// Makes one test of a scenario for each of the named connections' databases.
macro_rules! on_databases {
    ($scenario:ident) => {
        crate::support::on_databases!($scenario: PgConnection SqliteConnection MySqlConnection);
    };
    ($scenario:ident: $($connection:ident)+) => {
        mod $scenario {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[allow(non_snake_case, reason = "named as the connection is")]
                async fn $connection() {
                    let scene = crate::support::Scene::<sqlx::$connection>::new().await;
                    let Some(scene) = scene else { return };
                    super::$scenario(&scene).await;
                    scene.clean_up().await;
                }
            )+
        }
    };
}
pub(crate) use on_databases;
