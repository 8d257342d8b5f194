variable "region" {
  type        = string
  description = "Name of the region's policy in region_policies/."
}

variable "aws_region" {
  type        = string
  description = "AWS region that keeps the region's data."
}

variable "account_id" {
  type        = string
  description = "AWS account that administers the key."
}

variable "partition" {
  type        = string
  description = "AWS partition, for ARNs."
}

variable "bucket_prefix" {
  type        = string
  description = "Start of the bucket's and the role's name."
}

variable "store_prefix" {
  type        = string
  description = "Prefix in the bucket under which artifacts are kept."
}

variable "namespace" {
  type        = string
  description = "Kubernetes namespace of the region's service account, regiolect-<region>."
}

variable "oidc" {
  type = object({
    provider_arn = string
    issuer       = string
  })
  description = "OIDC provider of the cluster in which the region's jobs run."
}

variable "shared" {
  type = object({
    bucket_arn = string
    key_arn    = string
    aws_region = string
    prefix     = string
  })
  description = "The shared bucket, which the region reads."
}

variable "control_role_arn" {
  type        = string
  description = "Role of control workers, which read the region's bucket and write its records."
}
