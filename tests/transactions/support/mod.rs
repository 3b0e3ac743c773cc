//! What the tests share: three databases, one of them by two drivers, under one trait, tables of a test's own, an application
//! whose handlers do what a request says, and a wire that can be cut.

pub mod database;
pub mod deadpool;
pub mod scene;
pub mod server;
pub mod stage;
pub mod wire;

pub use database::Database;
pub use scene::{Scene, skip};
pub use server::{Reply, Server, reply};

/// The connections that handlers borrow, by the names that tests have of them.
pub mod connections {
    pub use idempotent_runtime::store::postgres::DeadpoolTransaction;
    pub use sqlx::{MySqlConnection, PgConnection, SqliteConnection};
}

/// Makes one test of a scenario for each of the named connections' databases.
macro_rules! on_databases {
    ($scenario:ident) => {
        crate::support::on_databases!(
            $scenario: PgConnection DeadpoolTransaction SqliteConnection MySqlConnection
        );
    };
    ($scenario:ident: $($connection:ident)+) => {
        mod $scenario {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[allow(non_snake_case, reason = "named as the connection is")]
                async fn $connection() {
                    let scene = crate::support::Scene::<crate::support::connections::$connection>::new().await;
                    let Some(scene) = scene else { return };
                    super::$scenario(&scene).await;
                    scene.clean_up().await;
                }
            )+
        }
    };
}
pub(crate) use on_databases;
