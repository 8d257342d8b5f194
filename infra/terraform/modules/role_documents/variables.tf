variable "namespace" {
  type        = string
  description = "Kubernetes namespace of the service account."
}

variable "service_account" {
  type        = string
  description = "The one service account that may take the role."
}

variable "oidc" {
  type = object({
    provider_arn = string
    issuer       = string
  })
  description = "OIDC provider of the cluster."
}

variable "writes" {
  type = list(object({
    bucket_arn = string
    key_arn    = string
    aws_region = string
    prefix     = string
    paths      = optional(list(string), ["*"])
  }))
  description = "Prefixes of buckets that the role reads, and the paths under them that it writes."
}

variable "reads" {
  type = list(object({
    bucket_arn = string
    key_arn    = string
    aws_region = string
    prefix     = string
  }))
  description = "Prefixes of buckets that the role reads."
  default     = []
}
