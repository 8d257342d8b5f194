variable "bucket_prefix" {
  type        = string
  description = "Start of every bucket's name, <prefix>-<region> and <prefix>-shared: unique in the whole of S3."

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,40}[a-z0-9]$", var.bucket_prefix))
    error_message = "Use 3 to 42 lower-case letters, digits and hyphens."
  }
}

variable "home_region" {
  type        = string
  description = "AWS region of the shared bucket."
  default     = "eu-west-1"
}

variable "oidc" {
  type = object({
    provider_arn = string
    issuer       = string
  })
  description = "OIDC provider of the cluster in which workers run: its ARN, and its issuer without https://."

  validation {
    condition     = !startswith(var.oidc.issuer, "https://")
    error_message = "Give the issuer without https://."
  }
}

variable "namespace" {
  type        = string
  description = "Kubernetes namespace of the workers and their jobs."
  default     = "regiolect"
}

variable "store_prefix" {
  type        = string
  description = "Prefix in each bucket under which artifacts are kept."
  default     = "store"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", var.store_prefix))
    error_message = "One folder's name, without slashes or wildcards."
  }
}

variable "regions" {
  type = map(object({
    aws_region = string
    # A cluster of the region's own; var.oidc otherwise.
    oidc = optional(object({
      provider_arn = string
      issuer       = string
    }))
  }))
  description = "The regions of region_policies/ and where each keeps its data. ap-east-1 and me-central-1 are opt-in."
  default = {
    br  = { aws_region = "sa-east-1" }
    de  = { aws_region = "eu-central-1" }
    eu  = { aws_region = "eu-west-1" }
    hk  = { aws_region = "ap-east-1" }
    in  = { aws_region = "ap-south-1" }
    jp  = { aws_region = "ap-northeast-1" }
    me  = { aws_region = "me-central-1" }
    na  = { aws_region = "us-east-1" }
    sea = { aws_region = "ap-southeast-1" }
  }

  validation {
    condition     = length(setintersection(keys(var.regions), ["shared", "control"])) == 0
    error_message = "shared and control are no regions: their names are taken."
  }
}

variable "tags" {
  type        = map(string)
  description = "Tags of everything."
  default     = { project = "regiolect" }
}
