//! The settings of photos.

use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{
    InvalidSetting,
    values::{secret, service_url},
};

/// Where photos are: in a folder, or in an S3 bucket. A setting that is empty is not given.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Photos")]
pub struct PhotoSettings {
    /// The folder of the members' photos, made when it is missing. Not used with AWS_S3_BUCKET.
    #[arg(long, env = "PHOTO_DIR", default_value = "./data/photos", global = true)]
    pub photo_dir: PathBuf,
    /// The S3 bucket of the members' photos, in its folder photos/.
    #[arg(long, env = "AWS_S3_BUCKET", global = true)]
    pub aws_s3_bucket: Option<String>,
    /// Another name of AWS_S3_BUCKET, used when that is not given.
    #[arg(long, env = "AWS_BUCKET_NAME", global = true)]
    pub aws_bucket_name: Option<String>,
    /// The region of the bucket.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1", global = true)]
    pub aws_region: String,
    /// The access key for the bucket. Without one, the role of the EC2 instance is used.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true, global = true)]
    pub aws_access_key_id: Option<String>,
    /// The secret of that key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true, value_parser = secret, global = true)]
    pub aws_secret_access_key: Option<SecretString>,
    /// Where the bucket is, when it is not Amazon's: the URL of a service that speaks S3.
    #[arg(long, env = "AWS_ENDPOINT_URL", global = true)]
    pub aws_endpoint_url: Option<String>,
}

/// A bucket and the way into it.
pub struct Bucket<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its region.
    pub region: &'a str,
    /// The id of the access key, and its secret.
    pub keys: Option<(&'a str, &'a SecretString)>,
    /// Where it is, when it is not Amazon's.
    pub endpoint: Option<&'a str>,
}

impl PhotoSettings {
    /// The bucket, if photos are in one.
    #[must_use]
    pub fn bucket(&self) -> Option<Bucket<'_>> {
        let name = given(&self.aws_s3_bucket).or_else(|| given(&self.aws_bucket_name))?;
        let keys = given(&self.aws_access_key_id).zip(self.secret());
        Some(Bucket { name, region: &self.aws_region, keys, endpoint: given(&self.aws_endpoint_url) })
    }

    /// Checks what the parsers of single settings cannot. What is not used is not looked at: the names are common.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let Some(bucket) = self.bucket() else { return Ok(()) };
        let problem = |setting, problem: &str| Err(InvalidSetting { setting, problem: problem.to_owned() });
        match (given(&self.aws_access_key_id), self.secret()) {
            (Some(_), None) => return problem("AWS_SECRET_ACCESS_KEY", "needed with AWS_ACCESS_KEY_ID"),
            (None, Some(_)) => return problem("AWS_ACCESS_KEY_ID", "needed with AWS_SECRET_ACCESS_KEY"),
            _ => {}
        }
        if bucket.region.is_empty() {
            return problem("AWS_REGION", "needed with AWS_S3_BUCKET");
        }
        match bucket.endpoint {
            Some(url) if service_url(url).is_err() => {
                problem("AWS_ENDPOINT_URL", "an http or https URL such as https://s3.example.com, without a user")
            }
            _ => Ok(()),
        }
    }

    fn secret(&self) -> Option<&SecretString> {
        self.aws_secret_access_key.as_ref().filter(|secret| !secret.expose_secret().is_empty())
    }
}

fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}
